"""What the scripted peer and the sink share: how they listen, their TLS, what they offer, how an address is read."""

import socket
import ssl

EXTENSIONS = ("PIPELINING", "SIZE 52428800", "8BITMIME", "ENHANCEDSTATUSCODES")


def listen(address, port, receive_buffer=None):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if receive_buffer is not None:  # small, so that a peer that stops reading is felt soon
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.bind((address, port))
    sock.listen(1024)
    return sock


def server_context(tls, minimum=None, maximum=None, ciphers=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*tls)
    context.sni_callback = lambda sock, name, unused: setattr(sock, "asked_name", name)
    if minimum is not None:
        context.minimum_version = getattr(ssl.TLSVersion, minimum)
    if maximum is not None:
        context.maximum_version = getattr(ssl.TLSVersion, maximum)
    if ciphers is not None:
        context.set_ciphers(ciphers)
    return context


def mailbox(argument):
    """("local@domain", "PARAMETERS") out of "<local@domain> PARAMETERS"."""
    if not argument.startswith("<"):
        return argument, ""
    end = argument.rfind(">")
    return argument[1:end], argument[end + 1:].strip()
