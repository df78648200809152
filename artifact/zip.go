package artifact

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/countersign-dev/countersign/artifact/spool"
	"github.com/countersign-dev/countersign/artifact/ziparchive"
)

// zipContainer is a ZIP archive as a container.
type zipContainer struct {
	archive *ziparchive.Archive
	files   []*ziparchive.Entry // without directories
}

func openZIP(content io.ReaderAt, size int64, limits Limits) (container, error) {
	archive, err := ziparchive.Open(content, size, ziparchive.Options{
		Limits: ziparchive.Limits{
			// Directories are entries, too.
			Entries:      2 * limits.Files,
			Uncompressed: limits.TotalSize,
			Ratio:        limits.Ratio,
		},
		// Old programs for Windows separate components so.
		Allow: []ziparchive.Kind{ziparchive.Backslash},
	})
	if err != nil {
		return nil, err
	}
	z := &zipContainer{archive: archive}
	for _, e := range archive.Entries {
		if !e.IsDir() {
			z.files = append(z.files, e)
		}
	}
	return z, nil
}

// unpacked is the path that a name is unpacked to: with forward slashes, and
// without components that mean nothing, as in ./a//b.
func unpacked(name string) string { return path.Clean(strings.ReplaceAll(name, `\`, "/")) }

func (z *zipContainer) members() []member {
	members := make([]member, len(z.files))
	for i, e := range z.files {
		members[i] = member{unpacked(e.Name), e.Size, e.Mode()&fs.ModeSymlink != 0}
	}
	return members
}

func (z *zipContainer) directories() []string {
	var directories []string
	for _, e := range z.archive.Entries {
		if d := unpacked(e.Name); e.IsDir() && d != "." {
			directories = append(directories, d)
		}
	}
	return directories
}

func (z *zipContainer) open(i int) (io.ReadCloser, error) { return z.files[i].Open() }

func (z *zipContainer) inPlace(i int) io.ReaderAt {
	section, err := z.files[i].Section()
	if err != nil {
		return nil
	}
	return section
}

func (z *zipContainer) prepare(i int, content io.Reader, o spool.Options) (replacement, error) {
	return ziparchive.Prepare(content, z.files[i].Method, o)
}

func (z *zipContainer) rebuild(dst io.Writer, replacements map[int]replacement) (int64, error) {
	patch := ziparchive.NewPatch(z.archive)
	for i, r := range replacements {
		if err := patch.Replace(z.files[i], r.(*ziparchive.Prepared)); err != nil {
			return 0, err
		}
	}
	return patch.WriteTo(dst)
}

func (z *zipContainer) compare(other container, changed map[string]bool, quick bool) error {
	differences, err := ziparchive.Diff(z.archive, other.(*zipContainer).archive, ziparchive.DiffOptions{Quick: quick})
	if err != nil {
		return err
	}
	for _, d := range differences {
		if d.A != nil && d.B != nil && len(d.Aspects) == 1 && d.Aspects[0] == ziparchive.Content && changed[unpacked(d.Name)] {
			continue
		}
		return fmt.Errorf("zip: entry %q differs from the original in %v", d.Name, d.Aspects)
	}
	return nil
}
