package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// exitMemory tells the caller that the memory limit ended the process.
const exitMemory = 87

// isolate takes away what no rendering needs: sockets and new processes. Where the kernel cannot filter
// system calls, what is left still has no HTTP transport and no PATH.
func isolate() {
	os.Clearenv() // nothing of the parent's environment can reach a template
	http.DefaultTransport = refuse{}
	if err := denySystemCalls(); err != nil {
		fmt.Fprintf(os.Stderr, "no system call filter: %v\n", err)
	}
}

type refuse struct{}

func (refuse) RoundTrip(r *http.Request) (*http.Response, error) {
	return nil, fmt.Errorf("%w: %s", errNoNetwork, r.URL)
}

var errNoNetwork = errors.New("the renderer has no network")

// denySystemCalls makes socket(2) and execve(2) fail with EACCES in all threads, now and later.
func denySystemCalls() error {
	denied := []uint32{unix.SYS_SOCKET, unix.SYS_EXECVE, unix.SYS_EXECVEAT}
	program := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}} // the call's number
	for i, number := range denied {
		program = append(program, unix.SockFilter{
			Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: number, Jt: uint8(len(denied) - i),
		})
	}
	program = append(program,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EACCES)},
	)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&filter)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return errno
	}
	return nil
}

// memoryLimit is the resident size in bytes past which the process ends itself; 0: none.
var memoryLimit = limitFromArguments(os.Args[1:])

func limitFromArguments(arguments []string) int64 {
	if len(arguments) == 2 && arguments[0] == "--memory-mib" {
		if mib, err := strconv.ParseInt(arguments[1], 10, 64); err == nil {
			return mib << 20
		}
	}
	return 0
}

// watchMemory looks at the resident size while a request runs; the returned function stops it.
func watchMemory() (stop func()) {
	if memoryLimit == 0 {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				if residentBytes() > memoryLimit {
					os.Exit(exitMemory)
				}
			}
		}
	}()
	return func() { close(done) }
}

func residentBytes() int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
