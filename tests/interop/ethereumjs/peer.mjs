// An unmodified @ethereumjs/devp2p RLPx node that a test drives with JSON
// lines: commands on stdin, events on stdout, logs on stderr (DEBUG=...).
import { createHash, randomBytes } from 'node:crypto'
import { writeSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { DisconnectReasonNames, ETH, Peer, RLPx, genPrivateKey } from '@ethereumjs/devp2p'
import snappy from 'snappyjs'

// The base class of the library's protocols, which it does not export.
const Protocol = Object.getPrototypeOf(ETH)

const hex = (bytes) => Buffer.from(bytes).toString('hex')
const unhex = (text) => Uint8Array.from(Buffer.from(text.replace(/^0x/, ''), 'hex'))

function emit(event) {
  let line = Buffer.from(JSON.stringify(event) + '\n')
  while (line.length > 0) {
    try {
      line = line.subarray(writeSync(1, line))
    } catch (err) {
      if (err.code !== 'EAGAIN') process.exit(1) // nobody reads us any more
    }
  }
}

const { values: options } = parseArgs({
  options: {
    protocol: { type: 'string', multiple: true, default: ['echo/1/2'] },
    key: { type: 'string' },
    name: { type: 'string', default: `ethereumjs-peer/v10.0.0/${process.platform}` },
    'max-peers': { type: 'string', default: '50' },
  },
})

const describe = (kind, id, proto, code, payload) => ({
  event: kind,
  id,
  protocol: proto.name,
  version: proto.version,
  code,
  size: payload.length,
  sha256: createHash('sha256').update(payload).digest('hex'),
})

/**
 * A capability: the library makes one object of `constructor` per connection.
 * The library inflates what arrives, but leaves compressing to the protocol
 * class; the payload itself never passes through RLP.
 */
function capability(text) {
  const parts = /^([^/]+)\/(\d+)\/(\d+)$/.exec(text)
  if (!parts) throw new Error(`bad --protocol ${text}: want NAME/VERSION/LENGTH`)
  const [name, version, length] = [parts[1], Number(parts[2]), Number(parts[3])]

  class EchoProtocol extends Protocol {
    constructor(negotiated, peer, send) {
      super(peer, send, name, negotiated, {})
      // The base class gives a protocol 5 s for an ETH status exchange, and
      // clears the timer when that is done. There is none here.
      clearTimeout(this._statusTimeoutId)
      this.name = name
      this.version = negotiated
      this.length = length
    }

    sendRaw(code, payload) {
      const hello = this._peer.getHelloMessage()
      const data = hello.protocolVersion >= 5 ? snappy.compress(payload) : payload
      return this._send(code, data)
    }

    _handleMessage(code, payload) {
      const id = hex(this._peer.getId())
      announce(this._peer)
      emit(describe('message', id, this, code, payload))
      if (code === 0) this.sendRaw(1, payload)
    }
  }
  return { name, version, length, constructor: EchoProtocol }
}

const live = new Map() // public key -> Peer
const announced = new WeakSet()
const errors = new WeakMap() // Peer -> text of its first error, for the drop event
const dials = new Map() // socket -> enode URL, until the peer is added

const rlpx = new RLPx(options.key ? unhex(options.key) : genPrivateKey(), {
  clientId: new Uint8Array(Buffer.from(options.name)),
  capabilities: options.protocol.map(capability),
  maxPeers: Number(options['max-peers']),
  listenPort: null,
})

// Only observed: the library reports nothing when a connection ends before
// both Hellos passed, nor who ended it. The original runs first.
const onSocketClose = Peer.prototype._onSocketClose
Peer.prototype._onSocketClose = function () {
  onSocketClose.call(this)
  if (announced.has(this)) return // reported by peer:removed
  const code = this._disconnectReason ?? null
  const error =
    code === null
      ? 'connection closed before the handshake was done'
      : `${DisconnectReasonNames[code] ?? code}${this._disconnectWe ? ' (sent)' : ' (received)'}`
  const remote = this._disconnectWe === null ? null : !this._disconnectWe
  const enode = dials.get(this._socket)
  if (enode !== undefined) {
    dials.delete(this._socket)
    emit({ event: 'dial_failed', enode, error, code, remote })
  } else {
    emit({ event: 'rejected', inbound: true, error, code, remote })
  }
}

/** Reports a peer once: at peer:added, or at a message that came sooner. */
function announce(peer) {
  if (announced.has(peer)) return
  announced.add(peer)
  const id = hex(peer.getId())
  const hello = peer.getHelloMessage()
  live.set(id, peer)
  // true when the dial table does not know the socket
  const inbound = !dials.delete(peer._socket)
  emit({
    event: 'peer',
    id,
    name: hello.clientId,
    caps: hello.capabilities.map((c) => `${c.name}/${c.version}`),
    inbound,
  })
  for (const proto of peer.getProtocols()) {
    emit({ event: 'protocol', id, protocol: proto.name, version: proto.version })
  }
}

rlpx.events.on('peer:added', announce)

rlpx.events.on('peer:removed', (peer, reason, disconnectWe) => {
  if (!announced.has(peer)) return // reported as rejected or dial_failed
  const id = hex(peer.getId())
  if (live.get(id) === peer) live.delete(id)
  emit({
    event: 'drop',
    id,
    reason:
      errors.get(peer) ??
      DisconnectReasonNames[reason] ??
      (reason === undefined ? 'socket closed' : `unknown reason ${reason}`),
    code: reason ?? null,
    remote: disconnectWe === null ? null : !disconnectWe,
  })
})

rlpx.events.on('peer:error', (peer, err) => {
  if (!errors.has(peer)) errors.set(peer, String(err?.message ?? err))
  console.error('peer:error', err)
})
rlpx.events.on('error', (err) => {
  console.error(err)
  process.exit(1)
})

async function dial(enode) {
  const url = new URL(enode)
  const id = unhex(url.username)
  if (url.protocol !== 'enode:' || id.length !== 64) throw new Error('bad enode URL')
  try {
    const peer = { id, address: url.hostname.replace(/^\[|\]$/g, ''), tcpPort: Number(url.port) }
    const connecting = rlpx.connect(peer)
    const socket = rlpx._peers.get(hex(id))
    if (socket && !(socket instanceof Peer)) {
      dials.set(socket, enode)
      connecting.catch(() => dials.delete(socket))
    }
    await connecting
  } catch (err) {
    emit({ event: 'dial_failed', enode, error: String(err.message ?? err), code: null, remote: null })
  }
}

function peerOf(command) {
  const peer = live.get(command.id)
  if (!peer) throw new Error('no such peer')
  return peer
}

const commands = {
  dial: (c) => dial(c.enode),
  send(c) {
    const proto = peerOf(c).getProtocols().find((p) => p.name === c.protocol)
    if (!proto) throw new Error('no such protocol with this peer')
    if (c.code >= proto.length) throw new Error('code out of range')
    const payload = c.fill === 'random' ? new Uint8Array(randomBytes(c.size)) : new Uint8Array(c.size)
    proto.sendRaw(c.code, payload)
    emit(describe('sent', c.id, proto, c.code, payload))
  },
  disconnect: (c) => peerOf(c).disconnect(c.reason ?? 0),
  fail() {
    throw new Error('unsupported')
  },
  peers: () => emit({ event: 'peers', ids: [...live.keys()] }),
}

rlpx.events.on('listening', () => {
  const { port } = rlpx._server.address()
  emit({ event: 'listening', enode: `enode://${hex(rlpx.id)}@127.0.0.1:${port}` })

  const input = createInterface({ input: process.stdin })
  input.on('line', async (line) => {
    if (line.trim() === '') return
    try {
      const command = JSON.parse(line)
      const run = Object.hasOwn(commands, command.cmd) ? commands[command.cmd] : undefined
      if (!run) throw new Error(`unknown command ${command.cmd}`)
      await run(command)
    } catch (err) {
      emit({ event: 'error', error: String(err.message ?? err) })
    }
  })
  input.on('close', () => {
    rlpx.destroy() // says Disconnect (client quitting) to every peer
    setTimeout(() => process.exit(0), 100)
  })
})
rlpx.listen(0, '127.0.0.1')
