package fwup

var requireExecute = requirement{args: 1, holds: func(a *applier, args []string) bool {
	if !a.unsafe {
		return false
	}
	status, err := exitStatus(a.shell(args[0]).Run())
	return err == nil && status == 0
}}

var requirePathOnDevice = requirement{args: 2, holds: func(a *applier, args []string) bool {
	return a.host.pathOnDevice(args[0], args[1])
}}

var requirePathAtOffset = requirement{args: 2, holds: func(a *applier, args []string) bool {
	block, err := parseCNumber(args[1])
	return err == nil && a.host.pathAtOffset(args[0], block)
}}
