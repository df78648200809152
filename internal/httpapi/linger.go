package httpapi

import (
	"io"
	"net/http"
	"time"
)

// lingerTime is how long the server takes what a client still sends after it was answered.
const lingerTime = 20 * time.Second

// linger lets clients read an answer that was given before they had sent their whole body, such as a refusal of the token or
// of the size. Many read nothing until they have sent everything, and would find the connection reset by then, the answer
// lost, and a reason to try again (RFC 9112, section 9.6). HTTP/2 has no such trouble.
func linger(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor > 1 || r.Body == nil || r.Body == http.NoBody {
			next.ServeHTTP(w, r)
			return
		}
		body := &watchedBody{ReadCloser: r.Body}
		watched := r.WithContext(r.Context()) // the server looks at its own request to tell what is left of the body
		watched.Body = body
		next.ServeHTTP(w, watched)
		// Who was not told to continue sends nothing after the answer.
		if body.ended || r.Header.Get("Expect") != "" && !body.begun {
			return
		}
		// What fails here fails because the client is gone.
		connection := http.NewResponseController(w)
		if connection.Flush() != nil || connection.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
			return
		}
		_, _ = io.Copy(io.Discard, body.ReadCloser)
		_ = connection.SetReadDeadline(time.Time{})
	})
}

// watchedBody knows how far it was read.
type watchedBody struct {
	io.ReadCloser
	begun, ended bool
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.begun = true
	n, err := b.ReadCloser.Read(p)
	b.ended = b.ended || err != nil
	return n, err
}
