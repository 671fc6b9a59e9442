"""The broker's side of the endpoint protocol (broker/wire.py), over any line.

`link.AgentLink` knows who is connected here and what waits to be sent, `handshake` lets an
endpoint in, `messages.Messages` carries out what it says, and `orders` puts the services' orders
into words. What a line is made of (a WebSocket, a simulated network) is not known here: see
`broker.ports.Line`.
"""
