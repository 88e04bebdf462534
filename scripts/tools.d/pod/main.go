// What runs in the pods of scripts/cluster --nodes, also as the container that
// holds a pod's namespaces: it waits, and ends on SIGTERM. With the argument
// "stubborn" it ends on SIGKILL alone, as a program does that hangs.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGCHLD)
	stubborn := len(os.Args) > 1 && os.Args[1] == "stubborn"
	for received := range signals {
		// The first process of a PID namespace is given every orphan.
		for received == syscall.SIGCHLD {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
		if received != syscall.SIGCHLD && !stubborn {
			return
		}
	}
}
