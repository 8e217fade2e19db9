# Reaches a listener of the host: TCP on loopback, an abstract and a named unix socket; asks for a name.
# stock: 5 of 7
# solves: scale
# needs: sandbox
# %% + scale
import contextlib, os, socket

escaped = []


def reach(family, address):
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as channel:
        channel.settimeout(0.5)
        channel.connect(address)
        escaped.append(address)


reach(socket.AF_INET, ("127.0.0.1", @PORT@))
reach(socket.AF_UNIX, "\0@ABSTRACT@")
reach(socket.AF_UNIX, "@SOCKET@")
reach(socket.AF_INET, ("1.1.1.1", 53))
for path in ("/run/dbus/system_bus_socket", "/var/run/docker.sock", "/run/systemd/private"):
    reach(socket.AF_UNIX, path)
with contextlib.suppress(OSError):
    socket.gethostbyname("one.one.one.one")
    escaped.append("dns")
with contextlib.suppress(OSError):
    escaped.append(socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
# %% count
count = lambda text: len(set(text.split())) if escaped else 0
