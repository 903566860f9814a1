package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/p2p/enode"
)

var errRequestedFailure = errors.New("requested failure")

// node keeps what the server does not: running handlers and dial targets.
type node struct {
	srv    *p2p.Server
	watch  *logWatch
	kv     *kvNode
	gossip *gossipNode

	mu      sync.Mutex
	live    map[string]*livePeer // by public key
	hexByID map[enode.ID]string
	targets map[enode.ID]string // enode URLs given to dial
	closed  map[enode.ID][]closeRecord
}

type livePeer struct {
	peer     *p2p.Peer
	handlers map[string]*handler
}

func newNode(verbose bool) *node {
	n := &node{
		kv:      newKVNode(),
		live:    make(map[string]*livePeer),
		hexByID: make(map[enode.ID]string),
		targets: make(map[enode.ID]string),
		closed:  make(map[enode.ID][]closeRecord),
	}
	n.gossip = newGossipNode(n)
	n.watch = newLogWatch(n, verbose)
	return n
}

func (n *node) peer(id string) (*p2p.Peer, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l := n.live[id]; l != nil {
		return l.peer, nil
	}
	return nil, errors.New("no such peer")
}

func (n *node) handler(id, protocol string) (*handler, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.live[id]
	if l == nil {
		return nil, errors.New("no such peer")
	}
	h := l.handlers[protocol]
	if h == nil {
		return nil, errors.New("no such protocol with this peer")
	}
	return h, nil
}

// handlers are those of a protocol, of all peers.
func (n *node) handlers(protocol string) []*handler {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := []*handler{}
	for _, l := range n.live {
		if h := l.handlers[protocol]; h != nil {
			all = append(all, h)
		}
	}
	return all
}

// started registers a handler; the peer's first one announces the peer.
func (n *node) started(p *p2p.Peer, h *handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.live[h.id]
	if l == nil || l.peer != p {
		l = &livePeer{peer: p, handlers: make(map[string]*handler)}
		n.live[h.id] = l
		n.hexByID[p.ID()] = h.id
		caps := []string{}
		for _, c := range p.Caps() {
			caps = append(caps, c.String())
		}
		emit(event{
			"event": "peer", "id": h.id, "name": p.Fullname(),
			"caps": caps, "inbound": p.Inbound(),
		})
	}
	l.handlers[h.name] = h
	emit(event{"event": "protocol", "id": h.id, "protocol": h.name, "version": h.version})
}

// watchDrops turns the server's drop events into ours.
func (n *node) watchDrops(events <-chan *p2p.PeerEvent) {
	for ev := range events {
		if ev.Type != p2p.PeerEventTypeDrop {
			continue
		}
		// The server logs the removal on its main loop, which may be
		// just behind this event: an operation on that loop waits for it.
		n.srv.PeerCount()

		reason := event{"event": "drop", "reason": ev.Error, "code": codeOfText(ev.Error), "remote": nil}
		n.mu.Lock()
		id := n.hexByID[ev.Peer]
		reason["id"] = id
		if recs := n.closed[ev.Peer]; len(recs) > 0 {
			n.closed[ev.Peer] = recs[1:]
			reason["code"], reason["remote"] = recs[0].code, recs[0].remote
		}
		if l := n.live[id]; l != nil && l.peer.RemoteAddr().String() == ev.RemoteAddress {
			delete(n.live, id)
		}
		emit(reason)
		n.mu.Unlock()
	}
}

// codeOfText finds the disconnect reason a text stands for, else nil.
func codeOfText(text string) any {
	for code := 0; code <= 0xff; code++ {
		if text == p2p.DiscReason(code).String() {
			return code
		}
	}
	return nil
}

// outgoing is a message waiting for the writer.
type outgoing struct {
	code    uint64
	payload []byte
	report  bool
}

// handler is one protocol running with one peer. Replies go through a queue
// with a writer of its own, so that two echoing ends never wait on each other.
type handler struct {
	id      string
	name    string
	version uint

	mu     sync.Mutex
	cond   *sync.Cond
	out    []outgoing
	done   bool
	result chan error
}

// attach sets the behaviour of a protocol.
func (n *node) attach(proto *p2p.Protocol) {
	name, version := proto.Name, proto.Version
	readLoop := (*handler).readLoop
	switch name {
	case "kv":
		readLoop = n.kv.readLoop
	case "gossip":
		readLoop = n.gossip.readLoop
	}
	proto.Run = func(p *p2p.Peer, rw p2p.MsgReadWriter) error {
		h := &handler{id: nodeHex(p.Node()), name: name, version: version, result: make(chan error, 1)}
		h.cond = sync.NewCond(&h.mu)
		n.started(p, h)
		defer func() {
			h.mu.Lock()
			h.done = true
			h.cond.Broadcast()
			h.mu.Unlock()
		}()
		go h.writeLoop(rw)
		go func() { h.stop(readLoop(h, rw)) }()
		return <-h.result
	}
}

// stop makes Run return err; only the first call counts.
func (h *handler) stop(err error) {
	select {
	case h.result <- err:
	default:
	}
}

func (h *handler) queue(m outgoing) {
	h.mu.Lock()
	h.out = append(h.out, m)
	h.cond.Signal()
	h.mu.Unlock()
}

func (h *handler) readLoop(rw p2p.MsgReadWriter) error {
	for {
		msg, err := rw.ReadMsg()
		if err != nil {
			return err
		}
		payload := make([]byte, msg.Size)
		if _, err := io.ReadFull(msg.Payload, payload); err != nil {
			return err
		}
		emit(h.describe("message", msg.Code, payload))
		if msg.Code == 0 {
			h.queue(outgoing{code: 1, payload: payload})
		}
	}
}

func (h *handler) writeLoop(rw p2p.MsgReadWriter) {
	for {
		h.mu.Lock()
		for len(h.out) == 0 && !h.done {
			h.cond.Wait()
		}
		if h.done {
			h.mu.Unlock()
			return
		}
		m := h.out[0]
		h.out = h.out[1:]
		h.mu.Unlock()

		err := rw.WriteMsg(p2p.Msg{Code: m.code, Size: uint32(len(m.payload)), Payload: bytes.NewReader(m.payload)})
		if err != nil {
			emitError("send %s code %d: %v", h.name, m.code, err)
			if strings.Contains(err.Error(), "invalid message code") {
				continue // refused before anything was written
			}
			return
		}
		if m.report {
			emit(h.describe("sent", m.code, m.payload))
		}
	}
}

func (h *handler) describe(kind string, code uint64, payload []byte) event {
	sum := sha256.Sum256(payload)
	return event{
		"event": kind, "id": h.id, "protocol": h.name, "version": h.version,
		"code": code, "size": len(payload), "sha256": hex.EncodeToString(sum[:]),
	}
}
