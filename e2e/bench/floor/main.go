// Command floor does the least that signing can get by with, for comparison, and measures programs:
//
//	floor copy IN OUT     hash, checksum and write a file in one pass
//	floor keys KEY COUNT  COUNT signatures with a private key (PEM, PKCS#8) on all processors, of digests in memory
//	floor commits COUNT   COUNT appends of 4 KiB to a new file in the working directory, each made durable
//	floor answers STATUS DETAILS  answer HTTP requests with a file, at the address that it prints, until standard input
//	                      ends: with the first file where a path ends in /Status
//	floor run PROGRAM...  run a program with its arguments and print what it took: wall and processor time in
//	                      nanoseconds, peak memory in bytes. A process's peak begins with that of the process that
//	                      starts it, so a small one has to.
package main

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "copy":
		return pass(args[1], args[2])
	case len(args) == 3 && args[0] == "keys":
		return keys(args[1], args[2])
	case len(args) == 2 && args[0] == "commits":
		return commits(args[1])
	case len(args) == 3 && args[0] == "answers":
		return answers(args[1], args[2])
	case len(args) > 1 && args[0] == "run":
		return measure(args[1:])
	}
	return errors.New("usage: floor copy IN OUT | keys KEY COUNT | commits COUNT | answers STATUS DETAILS | run PROGRAM [ARGUMENTS]")
}

// pass reads a file once: what is read is hashed (SHA-256), summed up as the PE checksum is, and written.
func pass(in, out string) error {
	src, err := os.Open(in)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(out)
	if err != nil {
		return err
	}
	defer dst.Close()
	digest, sum := sha256.New(), uint64(0)
	buffer := make([]byte, 1<<20)
	for {
		n, err := io.ReadFull(src, buffer)
		block := buffer[:n]
		_, _ = digest.Write(block) // never fails
		for len(block) >= 2 {
			sum += uint64(block[0]) | uint64(block[1])<<8
			block = block[2:]
		}
		if _, err := dst.Write(buffer[:n]); err != nil {
			return err
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		} else if err != nil {
			return err
		}
	}
	fmt.Printf("%x %d\n", digest.Sum(nil), sum)
	return dst.Close()
}

func keys(path, count string) error {
	left, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return fmt.Errorf("%s is not PEM", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return err
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return fmt.Errorf("%s has a %T, which signs nothing", path, parsed)
	}
	work := make(chan int, left)
	for i := range left {
		work <- i
	}
	close(work)
	var wg sync.WaitGroup
	errs := make(chan error, runtime.GOMAXPROCS(0))
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range work {
				digest := sha256.Sum256([]byte{byte(i), byte(i >> 8)})
				if _, err := key.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

// answers knows of HTTP (RFC 9112) only that requests without a body end with an empty line.
func answers(statusFile, detailsFile string) error {
	status, err := ready(statusFile)
	if err != nil {
		return err
	}
	details, err := ready(detailsFile)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answer(c, status, details)
		}
	}()
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, l.Close())
}

// ready returns an answer with a file.
func ready(path string) ([]byte, error) {
	body, err := os.ReadFile(path)
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(body))
	return append([]byte(head), body...), err
}

func answer(c net.Conn, status, details []byte) {
	defer func() { _ = c.Close() }() // nothing is lost with it
	text := details
	for lines := bufio.NewReader(c); ; {
		line, err := lines.ReadSlice('\n')
		switch {
		case err != nil:
			return
		case bytes.Contains(line, []byte("/Status HTTP/")):
			text = status
		case len(line) == len("\r\n"):
			if _, err := c.Write(text); err != nil {
				return
			}
			text = details
		}
	}
}

func commits(count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(".", "commits")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	page := make([]byte, 4096)
	for range n {
		if _, err := f.Write(page); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
	}
	return nil
}

func measure(args []string) error {
	cmd := exec.Command(args[0], args[1:]...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	start := time.Now()
	err := cmd.Run()
	wall := time.Since(start)
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, output.Bytes()[max(0, output.Len()-2000):])
	}
	used, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return errors.New("this system does not tell what a process used")
	}
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	_, err = fmt.Println(wall.Nanoseconds(), cpu.Nanoseconds(), used.Maxrss<<10) // Linux counts KiB
	return err
}
