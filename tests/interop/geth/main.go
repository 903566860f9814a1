// Command geth-peer runs an unmodified go-ethereum p2p.Server that a test
// drives with JSON lines: commands on stdin, events on stdout, logs on stderr.
package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/log"
	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/p2p/enode"
)

// event is one line of output.
type event map[string]any

var (
	outMu sync.Mutex
	out   = json.NewEncoder(os.Stdout)
)

func emit(ev event) {
	outMu.Lock()
	defer outMu.Unlock()
	if err := out.Encode(ev); err != nil {
		os.Exit(1) // nobody reads us any more
	}
}

func emitError(format string, args ...any) {
	emit(event{"event": "error", "error": fmt.Sprintf(format, args...)})
}

// protocolFlags collects the --protocol NAME/VERSION/LENGTH options.
type protocolFlags []p2p.Protocol

func (f *protocolFlags) String() string { return "" }

func (f *protocolFlags) Set(s string) error {
	parts := strings.Split(s, "/")
	if len(parts) != 3 || parts[0] == "" {
		return errors.New("want NAME/VERSION/LENGTH")
	}
	version, err := strconv.ParseUint(parts[1], 10, 32)
	if err != nil {
		return err
	}
	length, err := strconv.ParseUint(parts[2], 10, 32)
	if err != nil {
		return err
	}
	*f = append(*f, p2p.Protocol{Name: parts[0], Version: uint(version), Length: length})
	return nil
}

// runBench is the bench mode, where the platform has what it needs.
var runBench func(args []string) error

func main() {
	if len(os.Args) > 1 && os.Args[1] == "bench" {
		err := errors.New("it needs a Unix")
		if runBench != nil {
			err = runBench(os.Args[2:])
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	var (
		protocols protocolFlags
		keyHex    = flag.String("key", "", "node key, 64 hex digits (default: a new one)")
		name      = flag.String("name", "geth-peer/v1.17.10/"+runtime.GOOS, "client name in Hello")
		maxPeers  = flag.Int("max-peers", 50, "p2p.Config.MaxPeers")
		verbose   = flag.Bool("verbose", false, "write go-ethereum's log to stderr")
	)
	flag.Var(&protocols, "protocol", "NAME/VERSION/LENGTH, repeatable (default echo/1/2)")
	flag.Parse()
	if len(protocols) == 0 {
		protocols.Set("echo/1/2")
	}

	var key *ecdsa.PrivateKey
	var err error
	if *keyHex == "" {
		key, err = crypto.GenerateKey()
	} else {
		key, err = crypto.HexToECDSA(strings.TrimPrefix(*keyHex, "0x"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bad key:", err)
		os.Exit(2)
	}

	n := newNode(*verbose)
	for i := range protocols {
		n.attach(&protocols[i])
	}
	n.srv = &p2p.Server{Config: p2p.Config{
		PrivateKey:  key,
		MaxPeers:    *maxPeers,
		NoDiscovery: true,
		Name:        *name,
		Protocols:   protocols,
		ListenAddr:  "127.0.0.1:0",
		Logger:      log.NewLogger(n.watch),
	}}
	if err := n.srv.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "start:", err)
		os.Exit(1)
	}
	drops := make(chan *p2p.PeerEvent, 1024)
	n.srv.SubscribeEvents(drops)
	go n.watchDrops(drops)

	emit(event{
		"event": "listening",
		"enode": fmt.Sprintf("enode://%s@%s", pubHex(&key.PublicKey), n.srv.ListenAddr),
	})

	n.readCommands(os.Stdin)

	// Stop says Disconnect (client quitting) to every peer.
	done := make(chan struct{})
	go func() { n.srv.Stop(); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
	}
}

func pubHex(key *ecdsa.PublicKey) string {
	return hex.EncodeToString(crypto.FromECDSAPub(key)[1:])
}

// nodeHex is the public key of a node in the form of the enode URL.
func nodeHex(n *enode.Node) string {
	if key := n.Pubkey(); key != nil {
		return pubHex(key)
	}
	return ""
}

// command is one line of input.
type command struct {
	Cmd      string `json:"cmd"`
	Enode    string `json:"enode"`
	Direct   bool   `json:"direct"`
	ID       string `json:"id"`
	Protocol string `json:"protocol"`
	Code     uint64 `json:"code"`
	Size     int    `json:"size"`
	Fill     string `json:"fill"`
	Reason   uint8  `json:"reason"`
	Payload  string `json:"payload"`
	kvCommand
}

func (n *node) readCommands(r io.Reader) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(strings.TrimSpace(string(line))) > 0 {
			var c command
			if err := json.Unmarshal(line, &c); err != nil {
				emitError("bad command: %v", err)
			} else if err := n.run(c); err != nil {
				emitError("%s: %v", c.Cmd, err)
			}
		}
		if err != nil {
			return
		}
	}
}

func (n *node) run(c command) error {
	switch c.Cmd {
	case "dial":
		dest, err := enode.ParseV4(c.Enode)
		if err != nil {
			return err
		}
		n.mu.Lock()
		n.targets[dest.ID()] = c.Enode
		n.mu.Unlock()
		if c.Direct {
			go n.dialDirect(dest, c.Enode)
		} else {
			n.srv.AddPeer(dest)
		}

	case "remove":
		dest, err := enode.ParseV4(c.Enode)
		if err != nil {
			return err
		}
		go n.srv.RemovePeer(dest)

	case "send":
		h, err := n.handler(c.ID, c.Protocol)
		if err != nil {
			return err
		}
		payload := make([]byte, c.Size)
		switch c.Fill {
		case "", "zeros":
		case "random":
			rand.Read(payload)
		default:
			return fmt.Errorf("unknown fill %q", c.Fill)
		}
		h.queue(outgoing{code: c.Code, payload: payload, report: true})

	case "disconnect":
		p, err := n.peer(c.ID)
		if err != nil {
			return err
		}
		go func() {
			p.Disconnect(p2p.DiscReason(c.Reason))
			n.srv.RemovePeer(p.Node()) // no redial of a static node
		}()

	case "fail":
		h, err := n.handler(c.ID, c.Protocol)
		if err != nil {
			return err
		}
		h.stop(errRequestedFailure)

	case "kv":
		h, err := n.handler(c.ID, "kv")
		if err != nil {
			return err
		}
		return n.kv.run(h, c.kvCommand)

	case "publish":
		return n.gossip.publish(c.Payload)

	case "peers":
		ids := []string{}
		for _, p := range n.srv.Peers() {
			ids = append(ids, nodeHex(p.Node()))
		}
		emit(event{"event": "peers", "ids": ids})

	default:
		return errors.New("unknown command")
	}
	return nil
}

// dialDirect connects at once, past the dial scheduler with its 35 s history.
// The flag 1 is p2p's (unexported) dynDialedConn.
func (n *node) dialDirect(dest *enode.Node, url string) {
	addr, _ := dest.TCPEndpoint()
	fd, err := net.DialTimeout("tcp", addr.String(), 5*time.Second)
	if err != nil {
		emit(event{"event": "dial_failed", "enode": url, "error": err.Error(), "code": nil})
		return
	}
	n.srv.SetupConn(fd, 1, dest) // a failure is reported by logWatch
}
