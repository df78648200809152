package oracle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// grammarDir is where the grammar of PowerShell is installed, within the module.
const grammarDir = "powershell/test"

// installGrammar fetches the grammar that the lock file pins, unless it is there, and returns its directory. Tests of several
// packages may do so at once: what is there counts only when it is whole.
var installGrammar = sync.OnceValues(func() (string, error) {
	root, err := os.Getwd()
	for err == nil {
		if _, missing := os.Stat(filepath.Join(root, "go.mod")); missing == nil {
			break
		} else if parent := filepath.Dir(root); parent == root {
			err = errors.New("no go.mod above the working directory")
		} else {
			root = parent
		}
	}
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, filepath.FromSlash(grammarDir))
	wanted, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		return "", err
	}
	const mark = "installed-package-lock.json"
	modules := filepath.Join(dir, "node_modules")
	installed := func() bool {
		have, err := os.ReadFile(filepath.Join(modules, mark))
		return err == nil && bytes.Equal(have, wanted)
	}
	if installed() {
		return dir, nil
	}
	if _, err := exec.LookPath("npm"); err != nil {
		return "", fmt.Errorf("the PowerShell grammar needs Node.js with npm (https://nodejs.org): %w", err)
	}
	fresh, err := os.MkdirTemp(dir, "node_modules")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(fresh) }() // what stays is ignored
	for _, name := range []string{".npmrc", "package.json", "package-lock.json"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(fresh, name), text, 0o600)
		}
		if err != nil {
			return "", err
		}
	}
	npm := exec.CommandContext(context.Background(), "npm", "ci", "--prefer-offline")
	npm.Dir = fresh
	if output, err := npm.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w: %s", err, output)
	}
	whole := filepath.Join(fresh, "node_modules")
	if err := os.WriteFile(filepath.Join(whole, mark), wanted, 0o600); err != nil {
		return "", err
	}
	if installed() { // by somebody else meanwhile
		return dir, nil
	}
	if err := os.RemoveAll(modules); err != nil {
		return "", err
	}
	if err := os.Rename(whole, modules); err != nil && !(errors.Is(err, fs.ErrExist) && installed()) {
		return "", err
	}
	return dir, nil
})

// ParsePowerShell parses PowerShell files with tree-sitter's grammar, and returns what powershell/test/syntax.mjs tells of them, in
// JSON by file. It is the only judge of the syntax on machines without PowerShell. Node starts slowly: parse many at once.
func ParsePowerShell(ctx context.Context, files ...string) ([]byte, error) {
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, fmt.Errorf("the PowerShell grammar needs Node.js (https://nodejs.org): %w", err)
	}
	dir, err := installGrammar()
	if err != nil {
		return nil, err
	}
	// The grammar's code is large and runs shortly: optimizing it takes a hundred times longer than parsing.
	output, err := exec.CommandContext(ctx, node, append([]string{"--liftoff-only", filepath.Join(dir, "syntax.mjs")}, files...)...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil, fmt.Errorf("syntax.mjs: %w: %s", err, exit.Stderr)
	}
	return output, err
}
