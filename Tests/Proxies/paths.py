"""The ways from a client to the server: real proxies from packages, each with its own configuration, and faults of our own.

Every way begins with a relay of our own (`FaultProxy`), whose address stays the same: so the proxy behind it can come and go.
"""

import asyncio
import os
import pwd
import shutil
import sys
import textwrap
from pathlib import Path

import wire
from faults import FaultProxy
from server import end, free_port, listening


class Proxy:
    """A proxy as a process of its own, in a folder of its own."""

    program = ""

    def __init__(self, server_port, folder):
        self.server_port = server_port
        self.folder = Path(folder)
        self.folder.mkdir(parents=True)
        self.port = free_port()
        self.process = None

    def command(self):
        """Writes the configuration; answers the command line."""
        raise NotImplementedError

    def identity(self):
        """The user to run as, where it must not be root."""
        return {}

    def write(self, name, text):
        path = self.folder / name
        path.write_text(textwrap.dedent(text).lstrip())
        return str(path)

    async def start(self):
        command = self.command()
        found = shutil.which(command[0])
        if not found:
            raise RuntimeError(f"{command[0]} is not installed")
        environment = {**os.environ, "HOME": str(self.folder), "PATH": os.defpath + ":/usr/sbin"}
        with open(self.folder / "output.log", "ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                found, *command[1:], stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.folder,
                env=environment, **self.identity())
        try:
            await listening(self.port, lambda: self.process.returncode is None, type(self).__name__)
        except RuntimeError as fault:
            await self.stop()
            raise RuntimeError(f"{fault}:\n{(self.folder / 'output.log').read_text()[-2000:]}") from None
        return self

    async def stop(self):
        await end(self.process, seconds=5)


class Nginx(Proxy):
    """nginx, whose answers are buffered as it does unless told otherwise; `location` is what is configured besides."""

    location = ""
    maps = ""

    def command(self):
        owner = "user root;" if os.getuid() == 0 else ""
        path = self.write("nginx.conf", f"""
            daemon off;
            {owner}
            worker_processes 1;
            pid {self.folder}/nginx.pid;
            error_log stderr warn;
            events {{ worker_connections 1024; }}
            http {{
                access_log off;
                client_body_temp_path {self.folder}/body;
                proxy_temp_path {self.folder}/proxy;
                fastcgi_temp_path {self.folder}/fastcgi;
                scgi_temp_path {self.folder}/scgi;
                uwsgi_temp_path {self.folder}/uwsgi;
                {self.maps}
                server {{
                    listen 127.0.0.1:{self.port};
                    location / {{
                        proxy_pass http://127.0.0.1:{self.server_port};
                        {self.location}
                    }}
                }}
            }}
            """)
        return ["nginx", "-p", str(self.folder), "-e", "stderr", "-c", path]


class NginxHolding(Nginx):
    location = "proxy_ignore_headers X-Accel-Buffering;"


class NginxUpgrading(Nginx):
    maps = "map $http_upgrade $connection_upgrade { default upgrade; '' close; }"
    location = ("proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; "
                "proxy_set_header Connection $connection_upgrade; proxy_set_header Host $http_host;")


class HAProxy(Proxy):
    tunnel_seconds = 3600
    options = ""

    def command(self):
        path = self.write("haproxy.cfg", f"""
            global
                maxconn 1000
            defaults
                mode http
                timeout connect 5s
                timeout client 50s
                timeout server 50s
                timeout tunnel {self.tunnel_seconds}s
                {self.options}
            frontend clients
                bind 127.0.0.1:{self.port}
                default_backend servers
            backend servers
                server tocsin 127.0.0.1:{self.server_port}
            """)
        return ["haproxy", "-db", "-q", "-f", path]


class HAProxyShortTunnel(HAProxy):
    tunnel_seconds = 10
    options = "option http-no-delay"


class Squid(Proxy):
    """squid as Debian configures it: CONNECT only to port 443. Clients that know no forward proxies come by its other port."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.reverse_port = free_port()

    def identity(self):
        if os.getuid() != 0:
            return {}
        nobody = pwd.getpwnam("nobody")
        for path in (self.folder, *self.folder.iterdir()):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

    def command(self):
        path = self.write("squid.conf", f"""
            http_port 127.0.0.1:{self.port}
            http_port 127.0.0.1:{self.reverse_port} accel defaultsite=127.0.0.1:{self.server_port} no-vhost
            cache_peer 127.0.0.1 parent {self.server_port} 0 no-query no-digest originserver name=tocsin
            acl SSL_ports port 443
            acl Safe_ports port 80 443 1025-65535
            acl reverse myportname 127.0.0.1:{self.reverse_port}
            http_access deny !Safe_ports
            http_access deny CONNECT !SSL_ports
            http_access allow localhost
            http_access deny all
            visible_hostname proxy.test
            cache deny all
            cache_mem 1 MB
            memory_pools off
            access_log none
            cache_log {self.folder}/cache.log
            cache_store_log none
            pid_filename none
            netdb_filename none
            pinger_enable off
            coredump_dir {self.folder}
            shutdown_lifetime 0 seconds
            """)
        return ["squid", "-N", "-f", path]


class Mitmproxy(Proxy):
    """mitmproxy in front of the server: an answer is passed on when it is complete."""

    addon = ""

    def command(self):
        line = [str(Path(sys.executable).with_name("mitmdump")), "--quiet", "--mode", f"reverse:http://127.0.0.1:{self.server_port}",
                "--listen-host", "127.0.0.1", "--listen-port", str(self.port), "--set", f"confdir={self.folder}",
                "--set", "keep_host_header=true", "--set", "connection_strategy=lazy"]
        if self.addon:
            line += ["--scripts", self.write("addon.py", self.addon)]
        return line


class MitmproxyWithoutUpgrade(Mitmproxy):
    addon = """
        from mitmproxy import http

        def request(flow):
            if "websocket" in flow.request.headers.get("upgrade", "").lower():
                flow.response = http.Response.make(403, b"upgrades are forbidden")
        """


class Way:
    """A way from clients to the server: the relay, and the proxy behind it, if there is one."""

    def __init__(self, name, about, proxy=None, faults=None, schedule=None, pauses=None, pages_pass=True):
        """`pages_pass`: a page can be loaded while the fault is on."""
        self.name, self.about = name, about
        self.make_proxy, self.faults = proxy, faults or {}
        self.schedule_of, self.pauses, self.pages_pass = schedule, pauses or {}, pages_pass
        self.relay = self.reverse_relay = self.proxy = None

    async def start(self, server_port, folder):
        self.server_port = server_port
        if self.make_proxy:
            self.proxy = await self.make_proxy(server_port, Path(folder) / self.name).start()
        self.relay = await FaultProxy(self.proxy.port if self.proxy else server_port).start()
        if self.is_forward:
            self.reverse_relay = await FaultProxy(self.proxy.reverse_port).start()
        await self.switch(**self.faults)
        return self

    async def stop(self):
        for each in (self.relay, self.reverse_relay, self.proxy):
            if each is not None:
                await each.stop()

    @property
    def is_forward(self):
        return isinstance(self.proxy, Squid)

    def route(self, knows_forward_proxies=True):
        """How a client goes this way."""
        if self.is_forward and knows_forward_proxies:
            return wire.Route(f"http://127.0.0.1:{self.server_port}", f"http://127.0.0.1:{self.relay.port}")
        return wire.Route(f"http://127.0.0.1:{(self.reverse_relay or self.relay).port}")

    @property
    def relays(self):
        return [each for each in (self.relay, self.reverse_relay) if each]

    async def switch(self, **faults):
        for relay in self.relays:
            await relay.switch(**faults)

    async def apply(self, phase):
        """Brings about one phase of a schedule."""
        if phase == "faulty":
            if self.proxy and not self.is_forward:
                await self.relay.switch(self.proxy.port, **self.faults)
            else:
                await self.switch(**self.faults)
        elif phase == "clear":
            # There is no way around a forward proxy, so it only stays.
            if self.proxy and not self.is_forward:
                await self.relay.switch(self.server_port)
            else:
                await self.switch()
        elif phase == "refuse":
            await self.switch(refuse=True)
        elif phase == "cut":
            for relay in self.relays:
                relay.cut()
        else:
            raise ValueError(phase)

    def schedule(self, seconds):
        """The phases while messages are published over so many seconds, as (share of the time, phase)."""
        return [(share * seconds, phase) for share, phase in self.schedule_of or MOVING]

    async def run_schedule(self, seconds):
        for duration, phase in self.schedule(seconds):
            await self.apply(phase)
            await asyncio.sleep(duration)


# A client that moves between networks: through the proxy, around it, cut off, nothing there, through the proxy.
MOVING = [(0.3, "faulty"), (0.15, "clear"), (0.2, "faulty"), (0.1, "cut"), (0.05, "refuse"), (0.2, "faulty")]
COMING_AND_GOING = [(0.3, "faulty"), (0.15, "clear"), (0.25, "faulty"), (0.1, "clear"), (0.2, "faulty")]
OUTAGES = [(0.2, "clear"), (0.2, "faulty"), (0.25, "clear"), (0.15, "faulty"), (0.2, "clear")]
STEADY = [(1.0, "faulty")]


def all_ways(quick):
    """The ways, in the order of the table."""
    cut_seconds = 3 if quick else 30
    return [
        Way("clear", "no proxy", schedule=[(0.4, "clear"), (0.2, "cut"), (0.1, "refuse"), (0.3, "clear")]),
        Way("nginx", "nginx as it is, without `Upgrade`: it buffers, and heeds `X-Accel-Buffering`", Nginx),
        Way("nginx-holding", "nginx without `Upgrade` that ignores `X-Accel-Buffering`", NginxHolding),
        Way("nginx-upgrade", "nginx that passes `Upgrade` on", NginxUpgrading),
        Way("haproxy-tunnel", "HAProxy with `timeout tunnel 10s`", HAProxyShortTunnel, pauses={} if quick else {0.4: 12}),
        Way("haproxy-delay", "HAProxy without `option http-no-delay`", HAProxy),
        Way("squid", "squid as forward proxy that refuses CONNECT to the plain port", Squid,
            schedule=[(0.4, "faulty"), (0.2, "cut"), (0.1, "refuse"), (0.3, "faulty")]),
        Way("mitmproxy", "mitmproxy: an answer is held until it is complete", Mitmproxy),
        Way("mitmproxy-blocking", "mitmproxy that refuses upgrades as well", MitmproxyWithoutUpgrade),
        Way("block-upgrades", "upgrades are answered with 403", faults={"block_upgrades": True}, schedule=COMING_AND_GOING),
        Way("kill-websockets", "WebSockets are reset after 300 ms", faults={"kill_websockets": 0.3}, schedule=COMING_AND_GOING),
        Way("buffer-16k", "what is less than 16 KiB is held back until the connection ends", faults={"buffer_bytes": 16384},
            schedule=COMING_AND_GOING, pages_pass=False),
        Way("buffer-answers", "what is less than 16 KiB is held back until the answer is complete",
            faults={"buffer_bytes": 16384, "heeds_answers": True}, schedule=COMING_AND_GOING),
        Way("cut", f"every connection is reset when it is {cut_seconds} s old", faults={"cut_after": cut_seconds}, schedule=STEADY),
        Way("silent", "bytes are dropped, and nobody is told", faults={"silent": True}, schedule=OUTAGES, pages_pass=False),
    ]
