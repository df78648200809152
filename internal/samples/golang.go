package samples

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/countersign-dev/countersign/internal/oracle"
)

const tinyProgram = `package main

import "os"

func main() { os.Stdout.WriteString("hello\n") }
`

// GoEXE returns the path of a small Windows program that the Go toolchain linked
// for an architecture: "386", "amd64" or "arm64". The file is shared: it must not
// be changed.
func GoEXE(t testing.TB, arch string) string {
	t.Helper()
	golang := oracle.Need(t, "go")
	dir := fetch(t, "go", runtime.Version()+"-"+arch, func(ctx context.Context, dir string) error {
		if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(tinyProgram), 0o600); err != nil {
			return err
		}
		command := exec.CommandContext(ctx, golang, "build", "-trimpath", "-o", "tiny.exe", "main.go")
		command.Dir = dir
		command.Env = append(os.Environ(), "GOOS=windows", "GOARCH="+arch, "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
		return command.Run()
	})
	return filepath.Join(dir, "tiny.exe")
}
