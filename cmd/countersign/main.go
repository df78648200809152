// Command countersign is the code signing platform: server, worker, command line client and local signing in one program.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// version is set by the linker; see the Makefile.
var version = ""

// The exit codes. Every command documents those that it uses.
const (
	exitOK       = 0
	exitFailure  = 1 // the thing asked for did not happen: a request failed, a signature is not valid
	exitUsage    = 2 // wrong flags, arguments or input files
	exitDenied   = 3 // credentials missing or not sufficient
	exitTimeout  = 4 // waited as long as was asked
	exitCanceled = 5 // interrupted
)

// exitError carries an exit code. A nil cause exits silently, when all was said.
type exitError struct {
	code  int
	cause error
}

func (e *exitError) Error() string {
	if e.cause == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.cause.Error()
}

func (e *exitError) Unwrap() error { return e.cause }

// console is where a command reads and writes, so that tests can run commands in process.
type console struct {
	in       io.Reader
	out, err io.Writer
}

func main() {
	// Most commands end before what is collected would be used again, and a server's heap is small beside what 1,000
	// connections make it look through.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
	unsetEmpty()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], console{in: os.Stdin, out: os.Stdout, err: os.Stderr})
	stop()
	os.Exit(code)
}

// unsetEmpty takes an empty setting for none: scripts pass on variables that nobody set.
func unsetEmpty() {
	for _, variable := range os.Environ() {
		if name, empty := strings.CutSuffix(variable, "="); empty && strings.HasPrefix(name, "COUNTERSIGN_") {
			_ = os.Unsetenv(name)
		}
	}
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, io console) (code int) {
	if len(args) == 0 {
		args = []string{"--help"}
	}
	exited := -1
	parser, err := newParser(args,
		kong.Writers(io.out, io.err),
		kong.Exit(func(code int) { exited = code; panic(exitPanic{}) }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(io),
	)
	if err != nil {
		fmt.Fprintln(io.err, "countersign:", err)
		return exitUsage
	}
	defer func() {
		switch p := recover().(type) {
		case nil:
		case exitPanic:
			code = exited
		default:
			panic(p)
		}
	}()
	parsed, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(io.err, "countersign: %v\nRun '%s --help' for what it takes.\n", err, commandOf(err))
		return exitUsage
	}
	err = parsed.Run()
	var exit *exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		if exit.cause != nil {
			fmt.Fprintln(io.err, "countersign:", exit.cause)
		}
		return exit.code
	case ctx.Err() != nil:
		fmt.Fprintln(io.err, "countersign: interrupted")
		return exitCanceled
	}
	fmt.Fprintln(io.err, "countersign:", err)
	return exitFailure
}

// commandOf names the command whose line could not be parsed, as far as it is known.
func commandOf(err error) string {
	var parsing *kong.ParseError
	if errors.As(err, &parsing) {
		if node := parsing.Context.Selected(); node != nil {
			return node.FullPath()
		}
	}
	return "countersign"
}

// newParser returns the parser of a command line: of all commands, unless the line begins with the name of one. The others
// are then not built, which takes longer than many a command does. Those of the server are built together, because a file
// of settings serves them all.
func newParser(args []string, options ...kong.Option) (*kong.Kong, error) {
	var parser *kong.Kong
	options = append([]kong.Option{
		kong.Name("countersign"),
		kong.Description("Countersign signs build artifacts under signing policies. Run 'countersign demo' to see it work."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.DefaultEnvars("COUNTERSIGN"),
		kong.Configuration(func(r io.Reader) (kong.Resolver, error) { return readSettings(r, parser.Model) }),
		kong.Vars{"version": buildVersion()},
	}, options...)
	chosen := commands()
	if i := slices.IndexFunc(chosen, func(c command) bool { return len(args) > 0 && c.name == args[0] && c.group != serverGroup }); i >= 0 {
		chosen = chosen[i : i+1]
	}
	for _, c := range chosen {
		options = append(options, kong.DynamicCommand(c.name, c.help, c.group, c.grammar))
	}
	parser, err := kong.New(&cli{}, options...)
	return parser, err
}

// exitPanic unwinds the parser when it wants the process to end, after --help for instance.
type exitPanic struct{}

// buildVersion names this build: the linker's version, else what the Go tool recorded.
func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(development)"
}

// cli is the command line, without its commands.
type cli struct {
	Version kong.VersionFlag `help:"Print the version and exit." env:"-"`
}

// command is a command of the first level.
type command struct {
	name, group, help string
	grammar           any // pointer to the struct that kong fills
}

// The groups of commands.
const (
	serverGroup = "Server"
	clientGroup = "Client"
	localGroup  = "Local"
)

func commands() []command {
	return []command{
		{"serve", serverGroup, "Run the server: REST API, pages and worker in one process.", &serveCmd{}},
		{"worker", serverGroup, "Run a further worker on a shared database.", &workerCmd{}},
		{"migrate", serverGroup, "Bring the database's schema to this version.", &migrateCmd{}},
		{"demo", serverGroup, "Run a server with a seeded organization to try everything out.", &demoCmd{}},
		{"audit", serverGroup, "Check the audit log.", &auditCmd{}},
		{"organization", serverGroup, "Make and list organizations.", &organizationCmd{}},

		{"request", clientGroup, "Submit artifacts to a server, follow signing requests, decide on them, download.", &requestCmd{}},
		{"certificate", clientGroup, "Make, import and show certificates.", &certificateCmd{}},

		{"sign", localGroup, "Sign a file on this machine, without a server.", &signCmd{}},
		{"verify", localGroup, "Check the signatures of files, of files in archives, too.", &verifyCmd{}},
		{"plan", localGroup, "Show what an artifact configuration means for an artifact.", &planCmd{}},
		{"analyze", localGroup, "Propose an artifact configuration for an artifact.", &analyzeCmd{}},
		{"schema", localGroup, "Print the XML schema of artifact configurations.", &schemaCmd{}},
		{"completion", localGroup, "Print a completion script for a shell.", &completionCmd{}},
	}
}
