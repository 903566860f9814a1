//go:build unix

package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/log"
	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/p2p/enode"
)

// The codes of the protocol perf/1: data is thrown away, a request answered
// with a reply of the same payload.
const (
	perfData = iota
	perfRequest
	perfReply
	perfCodes
)

// The unexported flag p2p.dynDialedConn.
const dialed = 1

func randomPayload(size int) []byte {
	payload := make([]byte, size)
	rand.Read(payload)
	return payload
}

func sendPayload(rw p2p.MsgReadWriter, code uint64, payload []byte) error {
	return rw.WriteMsg(p2p.Msg{Code: code, Size: uint32(len(payload)), Payload: bytes.NewReader(payload)})
}

type handlerFunc = func(*p2p.Peer, p2p.MsgReadWriter) error

// answering counts data and answers requests, without copying them.
func answering(received *atomic.Uint64) handlerFunc {
	return func(p *p2p.Peer, rw p2p.MsgReadWriter) error {
		for {
			msg, err := rw.ReadMsg()
			if err != nil {
				return err
			}
			if msg.Code == perfRequest {
				err = rw.WriteMsg(p2p.Msg{Code: perfReply, Size: msg.Size, Payload: msg.Payload})
			} else {
				err = msg.Discard()
				received.Add(1)
			}
			if err != nil {
				return err
			}
		}
	}
}

func startServer(maxPeers int, run handlerFunc) (*p2p.Server, error) {
	key, err := crypto.GenerateKey()
	if err != nil {
		return nil, err
	}
	srv := &p2p.Server{Config: p2p.Config{
		PrivateKey:      key,
		MaxPeers:        maxPeers,
		MaxPendingPeers: maxPeers,
		NoDiscovery:     true,
		Name:            "geth-peer bench",
		Protocols:       []p2p.Protocol{{Name: "perf", Version: 1, Length: perfCodes, Run: run}},
		ListenAddr:      "127.0.0.1:0",
		Logger:          log.NewLogger(log.DiscardHandler()),
	}}
	return srv, srv.Start()
}

func dialPeer(from, to *p2p.Server) error {
	dest, err := enode.ParseV4(fmt.Sprintf("enode://%s@%s", pubHex(&to.PrivateKey.PublicKey), to.ListenAddr))
	if err != nil {
		return err
	}
	fd, err := net.Dial("tcp", to.ListenAddr)
	if err != nil {
		return err
	}
	return from.SetupConn(fd, dialed, dest)
}

// connectTwo starts two servers and has the second dial the first.
func connectTwo(answer, drive handlerFunc) error {
	one, err := startServer(10, answer)
	if err != nil {
		return err
	}
	other, err := startServer(10, drive)
	if err != nil {
		return err
	}
	return dialPeer(other, one)
}

// mesh is a number of servers that are all connected to one another.
type mesh struct {
	servers   []*p2p.Server
	connected int
}

func startMesh(count int) (*mesh, error) {
	m := new(mesh)
	for range count {
		// Of so many, a third is for dialled peers.
		srv, err := startServer(3*count, answering(new(atomic.Uint64)))
		if err != nil {
			return nil, err
		}
		m.servers = append(m.servers, srv)
	}
	return m, nil
}

func (m *mesh) connect(count int) error {
	for to := m.connected; to < count; to++ {
		for _, from := range m.servers[:to] {
			if err := dialPeer(from, m.servers[to]); err != nil {
				return err
			}
		}
	}
	m.connected = count
	for range 1000 {
		if m.ends() == count*(count-1) {
			return nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	return fmt.Errorf("%d of %d ends are connected", m.ends(), count*(count-1))
}

func (m *mesh) ends() int {
	ends := 0
	for _, srv := range m.servers {
		ends += srv.PeerCount()
	}
	return ends
}
