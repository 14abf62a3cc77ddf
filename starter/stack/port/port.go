// Package port finds TCP ports for programs that are started later, and perhaps once more.
package port

import (
	"errors"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"sync"
	"syscall"
)

// Ports lie below those that systems give to whoever connects (from 32768 on with Linux,
// from 49152 on elsewhere, RFC 6335 section 6): a program that was killed and is started
// anew needs its port again, and no connection is to have taken it meanwhile.
const lowest, most, tries = 10_000, 20_000, 1_000

var (
	mu sync.Mutex
	// claimed are the ports of this process, each with what keeps other processes from it.
	claimed = map[string]net.Listener{}
)

// Reserve returns a port that nobody uses on loopback, and that nobody else is given by
// Reserve while this process runs. On systems other than Linux this holds within this
// process alone.
func Reserve() (string, error) {
	var err error
	for range tries {
		number := strconv.Itoa(lowest + rand.IntN(most)) //nolint:gosec // nobody is to be kept from guessing it
		if !claim(number) {
			continue
		}
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", number)); err == nil {
			return number, l.Close()
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return "", err
		}
	}
	return "", errors.Join(errors.New("no port is free"), err)
}

// claim takes a number. Between processes an abstract socket of that name stands for it,
// which the system takes away when the process ends, however it ends.
func claim(number string) bool {
	mu.Lock()
	defer mu.Unlock()
	if _, taken := claimed[number]; taken {
		return false
	}
	var held net.Listener
	if runtime.GOOS == "linux" {
		var err error
		if held, err = net.Listen("unix", "@mobileid-port-"+number); err != nil {
			return false
		}
	}
	claimed[number] = held
	return true
}
