package bus

import (
	"strconv"

	"github.com/ganglion-iot/ganglion/fleet"
)

// The subjects of what people do on devices. Those of a device are subscribed
// to only while somebody waits for it.
const (
	subjectTerminal = "ganglion.terminal."        // + node: what viewers do
	subjectOutput   = "ganglion.terminal_output." // + device: what they are told
	subjectScript   = "ganglion.script."          // + device + "." + ref: results of scripts
)

// SendTerminal hands what a viewer does to the node that holds the device.
func (b *Bus) SendTerminal(node string, in fleet.TerminalInput) error {
	if err := checkNode(node); err != nil {
		return err
	}
	return b.publish(subjectTerminal+node, in)
}

// OnTerminal calls fn, one at a time and in order, for what viewers do on
// devices of the node.
func (b *Bus) OnTerminal(node string, fn func(fleet.TerminalInput)) (stop func(), err error) {
	if err := checkNode(node); err != nil {
		return nil, err
	}
	return subscribe(b, fn, subjectTerminal+node)
}

// PublishTerminal tells the viewers of a device's terminals.
func (b *Bus) PublishTerminal(out fleet.TerminalOutput) error {
	return b.publish(subjectOutput+strconv.FormatInt(out.DeviceID, 10), out)
}

// OnTerminalOutput calls fn, one at a time and in order, for what viewers of
// the device's terminals are told. fn must not block.
func (b *Bus) OnTerminalOutput(deviceID int64, fn func(fleet.TerminalOutput)) (stop func(), err error) {
	return subscribe(b, fn, subjectOutput+strconv.FormatInt(deviceID, 10))
}

// AnswerScript brings the result of a script to who waits for it. Nobody may:
// then nothing happens.
func (b *Bus) AnswerScript(a fleet.ScriptAnswer) error {
	subject, err := scriptSubject(a.DeviceID, a.Ref)
	if err != nil {
		return err
	}
	return b.publish(subject, a)
}

// OnScriptAnswer calls fn, one at a time, for results of the script that the
// device runs under the reference.
func (b *Bus) OnScriptAnswer(deviceID int64, ref string, fn func(fleet.ScriptAnswer)) (stop func(), err error) {
	subject, err := scriptSubject(deviceID, ref)
	if err != nil {
		return nil, err
	}
	return subscribe(b, fn, subject)
}

// scriptSubject keeps references, which devices tell, from reaching other
// subjects.
func scriptSubject(deviceID int64, ref string) (string, error) {
	if checkNode(ref) != nil {
		return "", fleet.InvalidField("ref", "a reference holds 1 to 128 letters, digits, - and _")
	}
	return subjectScript + strconv.FormatInt(deviceID, 10) + "." + ref, nil
}
