package fwupcli

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// card is a memory card that an update can be written to.
type card struct {
	path string
	size int64 // bytes
	name string
}

// detect lists the memory cards.
func (p *program) detect(string) error {
	var b strings.Builder
	for _, c := range p.findCards() {
		fmt.Fprintf(&b, "%s,%d\n", c.path, c.size)
	}
	p.out.result(b.String())
	return errDone
}

// printCard prints the card that would be taken.
func (p *program) printCard(string) error {
	c, err := p.onlyCard()
	if err != nil {
		return err
	}
	p.out.result(c.path + "\n")
	return errDone
}

// onlyCard returns the card, if there is one and one only.
func (p *program) onlyCard() (card, error) {
	cards := p.findCards()
	if len(cards) == 1 {
		return cards[0], nil
	}
	if len(cards) == 0 {
		return card{}, errors.New("No memory cards found. Try reinserting the card.") //nolint:staticcheck // shown as fwup shows it
	}
	// This is for the person in front of the computer, not for programs that
	// read stdout.
	fmt.Fprintln(p.stderr, "Too many possible memory cards found: ")
	for _, c := range cards {
		fmt.Fprintf(p.stderr, "  %s (%s)\n", c.path, strings.TrimSuffix(sizeText(c.size)+"; "+c.name, "; "))
	}
	fmt.Fprintln(p.stderr, "Automatic selection not possible. Specify one using the -d option.")
	return card{}, errSaid
}

// chooseCard finds the card to write to and lets the user confirm it.
func (p *program) chooseCard() (card, error) {
	c, err := p.onlyCard()
	if err != nil || p.opts.accept {
		return c, err
	}
	if p.opts.input == "" {
		return card{}, fmt.Errorf("Cannot confirm use of %s when using stdin.\nRerun with -y if location is correct.", c.path) //nolint:staticcheck // shown as fwup shows it
	}
	fmt.Fprintf(p.stderr, "Use %s memory card found at %s? [y/N] ", sizeText(c.size), c.path)
	var answer [1]byte
	if _, err := io.ReadFull(p.stdin, answer[:]); err != nil || answer[0] != 'y' && answer[0] != 'Y' {
		return card{}, errors.New("aborted by user")
	}
	return c, nil
}
