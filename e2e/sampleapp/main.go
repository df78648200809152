// Command sampleapp is the program that the demonstration signs: small, and built for Windows from any system.
package main

import (
	"flag"
	"fmt"
	"runtime"
)

// version is set when the program is linked.
var version = "unknown"

func main() {
	showVersion := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *showVersion {
		fmt.Println("sampleapp", version)
		return
	}
	fmt.Printf("Hello from sampleapp %s on %s/%s.\n", version, runtime.GOOS, runtime.GOARCH)
}
