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
// A device authenticates by a certificate whose key may be any crypto.Signer,
// or by a shared secret. Both can come from its key-value store, which is the
// environment of U-Boot or any other KeyValue. Where no connection can be kept,
// Options.Mode makes it poll.
//
// What keeps a device from its server is told as a ConnectError, whose first
// sentence says what is wrong and what to do. Diagnose goes the same way step
// by step and says the same.
//
// Run returns when its context ends, or with ErrRebooting after the Client
// took the order to restart. What the device decides itself (take this update
// now, later, never; how to reboot; how to blink) is asked of a Client.
//
// The wire protocol is that of NervesHub devices: Phoenix channels, version
// 2.0.0 or, with MessagePack, 3.0.0, over a WebSocket. Nothing here imports the server.
package link
