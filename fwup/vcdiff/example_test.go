package vcdiff_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"strings"

	"github.com/ganglion-iot/ganglion/fwup/vcdiff"
)

func Example() {
	old := strings.Repeat("what the device has already. ", 1000)
	target := "new: " + old + "and more"

	var delta bytes.Buffer
	err := vcdiff.Encode(context.Background(), &delta, strings.NewReader(old), int64(len(old)), strings.NewReader(target), vcdiff.EncodeOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(target), "bytes from", delta.Len())

	r := vcdiff.NewReader(&delta, strings.NewReader(old), int64(len(old)), vcdiff.ReaderOptions{MaxTarget: 1 << 20})
	got, err := io.ReadAll(r)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(got) == target)
	// Output:
	// 29013 bytes from 137
	// true
}
