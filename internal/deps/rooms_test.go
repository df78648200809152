// Package deps holds the house's import rules and the test that enforces them. It is part of no program.
package deps

// A room is a folder of the module with what lives below it, less the rooms that have a row of their own.
// What a row does not allow is refused: a room's packages import each other, the standard library, other
// modules, and no other package of this module.
type room struct {
	path string
	// why says what the room is for, in the words that a refused import shows.
	why string
	// planned rooms have a row before they have code. The row must lose the mark with the first package.
	planned bool
	// may names the rooms whose packages this one may import; anyRoom stands for all but the testOnly ones.
	may []string
	// testsMay names what the room's tests may import besides.
	testsMay []string
	// testOnly rooms are imported by tests alone, of any room. A package that imports testing is imported by tests
	// alone too, where their row allows its room.
	testOnly bool
	// never names packages outside this module, each with all below it, that the room must not import.
	never []string
	// only, when it is not nil, names the modules outside the standard library that the room may import.
	only []string
	// cgo rooms may import "C". Everything else builds without a C compiler.
	cgo bool
}

const anyRoom = "*"

// sql is how a program reaches a database.
var sql = []string{
	"database/sql", "github.com/jackc/pgx/v5", "modernc.org/sqlite", "github.com/pressly/goose/v3", "github.com/riverqueue/river",
}

// testModules may be imported by the tests of every room, whatever its row says.
var testModules = []string{"github.com/google/go-cmp", "github.com/rogpeppe/go-internal"}

// bannedNames say nothing about what a package does.
var bannedNames = []string{"common", "helper", "helpers", "misc", "model", "models", "util", "utils"}

var rooms = []room{
	{
		path: "api", why: "the contract, and what is generated from it; it knows nothing of ours",
		only: []string{"github.com/oapi-codegen/runtime", "github.com/google/uuid"},
	},
	{
		path: "artifact", why: "the engine: signers, chains and bytes, no organization, no server",
		may:      []string{"artifact/timestamp"},
		testsMay: []string{"api"}, // the schema that api publishes is tested against the parser
		never:    append([]string{"net/http", "github.com/a-h/templ"}, sql...),
	},
	{
		path: "artifact/timestamp", why: "the engine's one client of a network service, RFC 3161 over HTTP",
		may: []string{"artifact"}, never: append([]string{"github.com/a-h/templ"}, sql...),
	},
	{
		path: "client", why: "the public client speaks the contract, so that others can write one too",
		may: []string{"api"},
	},
	{
		path: "cmd/countersign", why: "the wiring and the command line; nobody imports it",
		may: []string{anyRoom},
	},
	{
		path: "cmd/countersign-hsm", why: "owns one PKCS#11 token in a process of its own", planned: true,
		may: []string{"internal/keystore"}, cgo: true,
	},
	{
		path: "cmd/countersign-pkcs11", why: "a PKCS#11 library over the public client", planned: true,
		may: []string{"client"}, cgo: true,
	},
	{
		path: "e2e", why: "runs whole programs and knows them only from outside",
		may:      []string{"api", "artifact", "client"},
		testsMay: []string{"internal/notify", "internal/store"}, // for smtptest and pgtest, which run a mail server and a PostgreSQL to give to them
	},
	{
		path: "internal/audit", why: "the log must be checkable without the rest of the house",
		only: []string{"golang.org/x/mod"},
	},
	{
		path: "internal/auth", why: "who somebody is; what changes there is logged as in the domain",
		may: []string{"internal/audit", "internal/signing"}, never: append([]string{"github.com/a-h/templ"}, sql...),
	},
	{
		path: "internal/certificate", why: "X.509 and PKCS#12 built and parsed, with standard cryptography alone",
		only: []string{"golang.org/x/crypto", "software.sslmate.com/src/go-pkcs12"},
	},
	{
		path: "internal/connector", why: "turns a build system's claims into an origin", planned: true,
		may: []string{"internal/signing"}, never: sql,
	},
	{
		path: "internal/deps", why: "this test",
		only: []string{"golang.org/x/mod"},
	},
	{
		path: "internal/egress", why: "what may be reached from here, for every client of addresses that users name",
		only: []string{},
	},
	{
		path: "internal/httpapi", why: "handlers decode, ask the domain, encode",
		may: []string{"api", "internal/audit", "internal/auth", "internal/signing"}, never: append([]string{"github.com/a-h/templ"}, sql...),
		// The tests send requests, also with the public client, through to a real database, real keys and real programs to sign.
		testsMay: []string{"artifact", "client", "internal/keystore", "internal/store"},
	},
	{
		path: "internal/keystore", why: "keys know neither the domain nor the database",
		may: []string{"internal/certificate"}, never: sql,
	},
	{
		path: "internal/notify", why: "carries the domain's messages out of the house",
		may: []string{"internal/egress", "internal/signing"}, never: append([]string{"github.com/a-h/templ"}, sql...),
	},
	{
		path: "internal/oracle", why: "finds the programs that judge what we produce", testOnly: true,
		only: []string{},
	},
	{
		path: "internal/retrieve", why: "fetches artifacts from links for the domain",
		may: []string{"internal/egress", "internal/signing"}, never: sql,
	},
	{
		path: "internal/samples", why: "fetches files that others made", testOnly: true,
		only: []string{},
	},
	{
		path: "internal/signing", why: "the domain decides; it stores nothing and speaks no protocol",
		may:      []string{"artifact", "internal/audit", "internal/certificate"},
		testsMay: []string{"internal/keystore", "internal/store"}, // the state machine is tested on a real database
		never:    append([]string{"net/http", "github.com/a-h/templ"}, sql...),
	},
	{
		path: "internal/store", why: "SQL, migrations, queue and blobs behind the domain's interfaces",
		may: []string{"internal/audit", "internal/auth", "internal/signing"}, never: []string{"github.com/a-h/templ"},
	},
	{
		path: "internal/web", why: "pages ask the domain as the REST handlers do, never each other",
		may: []string{"api", "internal/audit", "internal/auth", "internal/signing"},
		// Pages are tested on a real installation; what they offer to paste calls the REST API.
		testsMay: []string{"artifact", "internal/egress", "internal/httpapi", "internal/keystore", "internal/notify", "internal/store", "internal/worker"},
		never:    sql,
	},
	{
		path: "internal/worker", why: "job handlers advance requests through the domain",
		may: []string{"internal/signing"}, never: []string{"net/http", "github.com/a-h/templ"},
	},
	{
		path: "powershell", why: "the PowerShell module; its tests hold it against the server",
		testsMay: []string{"artifact", "internal/auth", "internal/httpapi", "internal/keystore", "internal/signing", "internal/store"},
	},
}
