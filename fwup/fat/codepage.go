package fat

// Code page 850: which characters its bytes from 0x80 on are.
const codePage850 = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜø£Ø×ƒáíóúñÑªº¿®¬½¼¡«»" +
	"░▒▓│┤ÁÂÀ©╣║╗╝¢¥┐└┴┬├─┼ãÃ╚╔╩╦╠═╬¤ðÐÊËÈıÍÎÏ┘┌█▄¦Ì▀" +
	"ÓßÔÒõÕµþÞÚÛÙýÝ¯´\u00ad±‗¾¶§÷¸°¨·¹³²■\u00a0"

// shortForms are the letters that stand for others in short names: the first
// of each for the rest.
var shortForms = []string{
	"AâäàåÄÅáÁÂÀãÃ", "CÇç", "EéêëèÉÊËÈ", "IïîìíıÍÎÏÌ", "OôöòÖøØóÓÔÒõÕ",
	"UüûùÜúÚÛÙ", "YÿýÝ", "Ææ", "Ññ", "Ðð", "Þþ",
}

var (
	toUnicode [256]uint16
	fromOEM   = map[uint16]byte{}
	shortByte [256]byte // what a byte becomes in a short name, but for its case
)

func init() {
	for i := range 0x80 {
		toUnicode[i] = uint16(i)
	}
	next := 0x80
	for _, r := range codePage850 {
		toUnicode[next] = uint16(r)
		next++
	}
	for i, r := range toUnicode {
		fromOEM[r] = byte(i)
		shortByte[i] = byte(i)
	}
	for _, form := range shortForms {
		letters := []rune(form)
		for _, r := range letters[1:] {
			shortByte[fromOEM[uint16(r)]] = fromOEM[uint16(letters[0])]
		}
	}
}

// upper returns the capital of a character, of those that code page 850 has.
func upper(c uint16) uint16 {
	switch {
	case c >= 'a' && c <= 'z', c >= 0xe0 && c <= 0xfe && c != 0xf7:
		return c - 0x20
	case c == 0xff:
		return 0x178
	case c == 0x192:
		return 0x191
	}
	return c
}
