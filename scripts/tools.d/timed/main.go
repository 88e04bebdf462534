// Stands before an IPAM plugin, as timed-NAME beside NAME, and writes down what
// each call took: verb, microseconds, microseconds of processor time, exit
// status, in a line of /var/log/timed-NAME.tsv. The configuration that it hands
// on names the plugin itself.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	name := filepath.Base(os.Args[0])
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		fail(name, err)
	}
	call := exec.Command(filepath.Join(filepath.Dir(os.Args[0]), strings.TrimPrefix(name, "timed-")))
	call.Stdin = bytes.NewReader(bytes.ReplaceAll(input, []byte(`"`+name+`"`), []byte(`"`+strings.TrimPrefix(name, "timed-")+`"`)))
	call.Stdout, call.Stderr = os.Stdout, os.Stderr
	start := time.Now()
	err = call.Run()
	took := time.Since(start)
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		fail(name, err)
	}
	state := call.ProcessState
	line := fmt.Sprintf("%s\t%d\t%d\t%d\n", os.Getenv("CNI_COMMAND"), took.Microseconds(),
		(state.UserTime() + state.SystemTime()).Microseconds(), state.ExitCode())
	log, err := os.OpenFile("/var/log/"+name+".tsv", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = log.WriteString(line)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	}
	os.Exit(max(state.ExitCode(), 0))
}

func fail(name string, err error) {
	fmt.Printf("{\"cniVersion\": \"1.0.0\", \"code\": 999, \"msg\": %q, \"details\": %q}\n", name, err)
	os.Exit(1)
}
