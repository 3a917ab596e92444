package fleet

import "time"

// Location is where a device says it is.
type Location struct {
	OrgID     int64
	ProductID int64
	DeviceID  int64
	Known     bool    // it told a place at least once
	Latitude  float64 // degrees, -90 to 90
	Longitude float64 // degrees, -180 to 180
	Accuracy  float64 // metres; 0: not told
	Source    string  // how the device knows, such as "geoip"
	At        time.Time

	// Why the latest try to find out failed; "" if it did not.
	ErrorCode        string
	ErrorDescription string
	ErrorAt          time.Time
}
