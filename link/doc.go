// Package link is the device side of Ganglion as a library: it keeps one
// connection to a server, reports what the device runs, takes firmware
// updates, writes them to the inactive slot, restarts and proves itself.
//
// A program makes a Link from Options and calls Run:
//
//	l, err := link.New(link.Options{
//		Host:       "wss://devices.example.com:4001",
//		Identifier: "sensor-1",
//		Secret:     &link.SharedSecret{Key: key, Secret: secret},
//		Slots:      slots,
//		Target:     link.FileTarget("/dev/mmcblk0"),
//		PublicKeys: keys,
//		CacheDir:   "/data/firmware",
//	})
//	err = l.Run(ctx)
//
// Run returns when its context ends, or with ErrRebooting after the Client
// took the order to restart. What the device decides itself (take this update
// now, later, never; how to reboot; how to blink) is asked of a Client.
//
// The wire protocol is that of NervesHub devices: Phoenix channels, version
// 2.0.0, over a WebSocket. Nothing here imports the server.
package link
