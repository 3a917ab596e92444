package auth

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var noon = time.Unix(1_700_000_000, 0)

func TestNonceCache(t *testing.T) {
	c := NewNonceCache(1000, time.Minute)
	if !c.Use("a", noon) || !c.Use("b", noon) {
		t.Error("first use refused")
	}
	if c.Use("a", noon) || c.Use("a", noon.Add(time.Minute-time.Nanosecond)) {
		t.Error("replay accepted")
	}
	if !c.Use("a", noon.Add(time.Minute)) {
		t.Error("not forgotten in time")
	}
}

func TestNonceCacheIsBounded(t *testing.T) {
	const capacity = 160
	c := NewNonceCache(capacity, time.Minute)
	for i := range 10_000 {
		now := noon.Add(time.Duration(i))
		if !c.Use(strconv.Itoa(i), now) {
			t.Fatalf("nonce %d refused", i)
		}
		if c.Use(strconv.Itoa(i), now) {
			t.Fatalf("nonce %d replayed", i)
		}
	}
	if n := c.Len(); n > capacity || n < capacity/2 {
		t.Errorf("%d remembered", n)
	}
	for i := range 1000 {
		c.Use("later"+strconv.Itoa(i), noon.Add(time.Hour+time.Duration(i)*time.Minute))
	}
	if n := c.Len(); n > nonceShards {
		t.Errorf("%d remembered after their time", n)
	}
}

func TestNonceIsUsedOnceByMany(t *testing.T) {
	c := NewNonceCache(1000, time.Minute)
	var first atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if c.Use("same", noon) {
				first.Add(1)
			}
		})
	}
	wg.Wait()
	if first.Load() != 1 {
		t.Errorf("%d first uses", first.Load())
	}
}

func TestLimiter(t *testing.T) {
	l := NewLimiter(2, time.Second, 3, 1000)
	for range 3 {
		if ok, _ := l.Allow("a", noon); !ok {
			t.Fatal("burst refused")
		}
	}
	ok, wait := l.Allow("a", noon)
	if ok || wait != 500*time.Millisecond {
		t.Fatalf("%v, wait %v", ok, wait)
	}
	if ok, _ := l.Allow("b", noon); !ok {
		t.Error("another key refused")
	}
	if ok, _ := l.Allow("a", noon.Add(wait-time.Millisecond)); ok {
		t.Error("allowed too early")
	}
	if ok, _ := l.Allow("a", noon.Add(wait)); !ok {
		t.Error("refused after the wait")
	}
}

func TestLimiterReadyTakesNothing(t *testing.T) {
	l := NewLimiter(2, time.Second, 1, 1000)
	for range 5 {
		if ok, wait := l.Ready("a", noon); !ok || wait != 0 {
			t.Fatalf("used up by a question, wait %v", wait)
		}
	}
	if l.Len() != 0 {
		t.Errorf("%d keys are remembered that nobody used", l.Len())
	}
	l.Allow("a", noon)
	if ok, wait := l.Ready("a", noon); ok || wait != 500*time.Millisecond {
		t.Errorf("used up: %v, wait %v", ok, wait)
	}
	if ok, _ := l.Ready("a", noon.Add(500*time.Millisecond)); !ok {
		t.Error("not ready after the wait")
	}
}

func TestLimiterForgetsTheLeastRecent(t *testing.T) {
	const capacity = 160
	l := NewLimiter(1, time.Hour, 1, capacity)
	l.Allow("busy", noon)
	for i := range 10_000 {
		l.Allow(fmt.Sprintf("stranger %d", i), noon)
		if ok, _ := l.Allow("busy", noon); ok {
			t.Fatalf("the busy key was forgotten after %d strangers", i)
		}
	}
	if n := l.Len(); n > capacity || n < capacity/2 {
		t.Errorf("%d remembered", n)
	}
}

func BenchmarkLimiter(b *testing.B) {
	l := NewLimiter(1, time.Second, 5, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		l.Allow("192.0.2.1", noon)
	}
}
