package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"

	"github.com/ethereum/go-ethereum/log"
	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/p2p/enode"
)

// logWatch is the server's log handler. A few log records carry what the API
// does not give: who asked for a disconnect, and why a dial or an inbound
// connection failed before it became a peer.
type logWatch struct {
	n     *node
	attrs []slog.Attr
	next  slog.Handler // nil: discard
}

// closeRecord is what the server logs when it removes a peer.
type closeRecord struct {
	code   any // the disconnect reason, or nil
	remote any // whether the other end asked for it
}

func newLogWatch(n *node, verbose bool) *logWatch {
	w := &logWatch{n: n}
	if verbose {
		w.next = log.NewTerminalHandlerWithLevel(os.Stderr, log.LevelTrace, false)
	}
	return w
}

func (w *logWatch) Enabled(context.Context, slog.Level) bool { return true }

func (w *logWatch) WithGroup(string) slog.Handler { return w }

func (w *logWatch) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *w
	c.attrs = append(append([]slog.Attr{}, w.attrs...), attrs...)
	if w.next != nil {
		c.next = w.next.WithAttrs(attrs)
	}
	return &c
}

func (w *logWatch) Handle(ctx context.Context, r slog.Record) error {
	switch r.Message {
	case "Removing p2p peer":
		a := w.collect(r)
		id, _ := a["id"].(enode.ID)
		remote, _ := a["req"].(bool)
		err, _ := a["err"].(error)
		w.n.mu.Lock()
		w.n.closed[id] = append(w.n.closed[id], closeRecord{code: codeOf(err), remote: remote})
		w.n.mu.Unlock()

	case "Dial error", "Failed RLPx handshake", "Failed p2p handshake",
		"Wrong devp2p handshake identity", "Rejected peer", "Setting up connection failed":
		w.failed(r.Message, w.collect(r))
	}
	if w.next != nil {
		return w.next.Handle(ctx, r)
	}
	return nil
}

func (w *logWatch) collect(r slog.Record) map[string]any {
	a := make(map[string]any)
	add := func(attr slog.Attr) bool { a[attr.Key] = attr.Value.Any(); return true }
	for _, attr := range w.attrs {
		add(attr)
	}
	r.Attrs(add)
	return a
}

// failed reports a connection that never became a peer.
func (w *logWatch) failed(what string, a map[string]any) {
	err, _ := a["err"].(error)
	text := what
	if err != nil {
		text += ": " + err.Error()
	}
	code := codeOf(err)
	if what == "Wrong devp2p handshake identity" {
		code = int(p2p.DiscUnexpectedIdentity)
	}
	flags := ""
	if s, ok := a["conn"].(interface{ String() string }); ok {
		flags = s.String()
	}
	if flags == "inbound" {
		emit(event{"event": "rejected", "inbound": true, "error": text, "code": code})
		return
	}
	emit(event{"event": "dial_failed", "enode": w.target(a), "error": text, "code": code})
}

// target finds the enode URL that was dialled: by id, else by address.
func (w *logWatch) target(a map[string]any) any {
	w.n.mu.Lock()
	defer w.n.mu.Unlock()
	if id, ok := a["id"].(enode.ID); ok {
		if url := w.n.targets[id]; url != "" {
			return url
		}
	}
	if addr, ok := a["addr"].(net.Addr); ok {
		for _, url := range w.n.targets {
			dest, err := enode.ParseV4(url)
			if err != nil {
				continue
			}
			if ep, ok := dest.TCPEndpoint(); ok && ep.String() == addr.String() {
				return url
			}
		}
	}
	return nil
}

// codeOf is the disconnect reason inside err, or nil.
func codeOf(err error) any {
	var reason p2p.DiscReason
	if errors.As(err, &reason) {
		return int(reason)
	}
	return nil
}
