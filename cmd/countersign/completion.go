package main

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" help:"The shell: ${enum}." enum:"bash,zsh,fish"`
}

// Help is shown by kong.
func (completionCmd) Help() string {
	return `Writes a script that completes commands, flags and their values.

    source <(countersign completion bash)                                        # in ~/.bashrc
    countersign completion zsh > "${fpath[1]}/_countersign"
    countersign completion fish > ~/.config/fish/completions/countersign.fish`
}

// Run writes the script.
func (c completionCmd) Run(out console) error {
	all, err := newParser(nil)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(out.out)
	nodes := completionNodes(all.Model.Node, "")
	switch c.Shell {
	case "bash":
		completeBash(w, nodes)
	case "zsh":
		completeZsh(w, nodes)
	case "fish":
		completeFish(w, nodes)
	}
	return w.Flush()
}

// completionNode is a command with what may follow it.
type completionNode struct {
	path  string // " request submit"; empty for the program itself
	words []completionWord
	flags []*kong.Flag
}

// completionWord is a command, or a value that an argument may have.
type completionWord struct{ name, help string }

// completionNodes lists a command with all below it.
func completionNodes(n *kong.Node, path string) []completionNode {
	node := completionNode{path: path}
	for _, group := range n.AllFlags(true) {
		node.flags = append(node.flags, group...)
	}
	slices.SortFunc(node.flags, func(a, b *kong.Flag) int { return strings.Compare(a.Name, b.Name) })
	list := []completionNode{}
	for _, child := range n.Children {
		if child.Type == kong.CommandNode && !child.Hidden {
			node.words = append(node.words, completionWord{child.Name, child.Help})
			list = append(list, completionNodes(child, path+" "+child.Name)...)
		}
	}
	for _, argument := range n.Positional {
		for _, name := range enumOf(argument) {
			node.words = append(node.words, completionWord{name, argument.Help})
		}
	}
	return append([]completionNode{node}, list...)
}

func (n completionNode) wordNames() string {
	names := make([]string, len(n.words))
	for i, w := range n.words {
		names[i] = w.name
	}
	return strings.Join(names, " ")
}

func (n completionNode) flagNames() string {
	names := make([]string, len(n.flags))
	for i, f := range n.flags {
		names[i] = "--" + f.Name
	}
	return strings.Join(names, " ")
}

// values calls each for the flags of all commands that take a value, with the values that they may have, if these are few.
func values(nodes []completionNode, each func(pattern string, enum []string)) {
	for _, n := range nodes {
		for _, f := range n.flags {
			if !f.IsBool() {
				each(n.path+" --"+f.Name, enumOf(f.Value))
			}
		}
	}
}

func enumOf(v *kong.Value) []string {
	if v.Enum == "" {
		return nil
	}
	return strings.Split(v.Enum, ",")
}

// known writes the case arms that follow the command line's words down the tree.
func known(w io.Writer, nodes []completionNode) {
	var paths []string
	for _, n := range nodes[1:] {
		paths = append(paths, `"`+n.path+`"`)
	}
	fmt.Fprintf(w, "            %s) command=\"$command $word\" ;;\n", strings.Join(paths, "|"))
}

func completeBash(w io.Writer, nodes []completionNode) {
	fmt.Fprint(w, `# Completion of countersign for bash.
_countersign() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= word
    COMPREPLY=()
    if [[ $cur == "=" ]]; then # bash takes --flag=value for three words
        cur=
    elif [[ $prev == "=" ]]; then
        prev=${COMP_WORDS[COMP_CWORD-2]}
    fi
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case "$command $word" in
`)
	known(w, nodes)
	fmt.Fprint(w, "        esac\n    done\n    case \"$command $prev\" in\n")
	values(nodes, func(pattern string, enum []string) {
		if enum == nil {
			fmt.Fprintf(w, "        %q) return ;;\n", pattern)
		} else {
			fmt.Fprintf(w, "        %q) COMPREPLY=($(compgen -W %q -- \"$cur\")); return ;;\n", pattern, strings.Join(enum, " "))
		}
	})
	fmt.Fprint(w, "    esac\n    local choices= flags=\n    case \"$command\" in\n")
	for _, n := range nodes {
		fmt.Fprintf(w, "        %q) choices=%q flags=%q ;;\n", n.path, n.wordNames(), n.flagNames())
	}
	fmt.Fprint(w, `    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$cur"))
    elif [[ -n $choices ]]; then
        COMPREPLY=($(compgen -W "$choices" -- "$cur"))
    fi
}
complete -o default -F _countersign countersign
`)
}

func completeZsh(w io.Writer, nodes []completionNode) {
	fmt.Fprint(w, `#compdef countersign
# Completion of countersign for zsh.
_countersign() {
    local command= word prev=${words[CURRENT-1]}
    if [[ $PREFIX == --*=* ]]; then
        prev=${PREFIX%%=*}
        compset -P '*='
    fi
    for word in "${(@)words[2,CURRENT-1]}"; do
        case "$command $word" in
`)
	known(w, nodes)
	fmt.Fprint(w, "        esac\n    done\n    case \"$command $prev\" in\n")
	values(nodes, func(pattern string, enum []string) {
		if enum == nil {
			fmt.Fprintf(w, "        %q) _files; return ;;\n", pattern)
		} else {
			fmt.Fprintf(w, "        %q) compadd -- %s; return ;;\n", pattern, strings.Join(enum, " "))
		}
	})
	fmt.Fprint(w, "    esac\n    local -a choices flags\n    case \"$command\" in\n")
	for _, n := range nodes {
		fmt.Fprintf(w, "        %q) choices=(%s) flags=(%s) ;;\n", n.path, n.wordNames(), n.flagNames())
	}
	fmt.Fprint(w, `    esac
    if [[ $PREFIX == -* ]]; then
        compadd -- $flags
    elif (( $#choices )); then
        compadd -- $choices
    else
        _files
    fi
}
if [[ $funcstack[1] == _countersign ]]; then
    _countersign "$@"
else
    compdef _countersign countersign
fi
`)
}

func completeFish(w io.Writer, nodes []completionNode) {
	fmt.Fprint(w, `# Completion of countersign for fish.
function __countersign_command
    set -l command
    for word in (commandline -opc)[2..-1]
        switch "$command $word"
`)
	var paths []string
	for _, n := range nodes[1:] {
		paths = append(paths, `"`+n.path+`"`)
	}
	fmt.Fprintf(w, "            case %s\n                set command \"$command $word\"\n", strings.Join(paths, " "))
	fmt.Fprint(w, "        end\n    end\n    echo \"$command\"\nend\n")
	for _, n := range nodes {
		at := fmt.Sprintf(`'test (__countersign_command) = %q'`, n.path)
		for _, word := range n.words {
			fmt.Fprintf(w, "complete -c countersign -f -n %s -a %s -d %s\n", at, word.name, fishText(word.help))
		}
		for _, f := range n.flags {
			fmt.Fprintf(w, "complete -c countersign -n %s -l %s -d %s", at, f.Name, fishText(f.Help))
			switch enum := enumOf(f.Value); {
			case enum != nil:
				fmt.Fprintf(w, " -x -a '%s'", strings.Join(enum, " "))
			case !f.IsBool():
				fmt.Fprint(w, " -r")
			}
			fmt.Fprintln(w)
		}
	}
}

// fishText quotes for fish, in which a single-quoted string knows two escapes.
func fishText(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}
