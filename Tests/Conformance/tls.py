"""Runs testssl.sh against the TLS port of a server, and judges its findings.

The certificate is made here, by an authority that testssl.sh is told of. The program grades from version 3.2 on, which is in Debian 12's
backports: it is taken from there and unpacked, not installed. The grade has to be A or better, and no finding above INFO but those named
here, which are of the certificate and not of the server.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from server import Server, free_port

# Of a certificate for a test: nobody can ask whether it was revoked.
OF_THE_CERTIFICATE = {"cert_crlDistributionPoints", "cert_ocspURL", "cert_revocation", "cert_validityPeriod", "cert_expirationStatus"}
# Of the page behind the port, not of TLS: security headers are the affair of what serves pages.
OF_THE_PAGE = {"HSTS", "security_headers"}
# testssl.sh 3.0 says of LUCKY13 that CBC ciphers might be vulnerable; of BREACH that it cannot tell.
GOOD = {"OK", "INFO"}
GRADES = {"A", "A+"}
# Of the program that tests: Debian's openssl has no GOST.
OF_THE_PROGRAM = {"engine_problem"}


def unpack_testssl(folder):
    """testssl.sh of bookworm-backports: the program, and the environment that it wants."""
    sources = subprocess.run(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Codename: bookworm"],
                             check=True, capture_output=True, text=True).stdout.split()
    if not sources:
        sys.exit("apt knows no archive of Debian 12")
    lists, cache = folder / "lists", folder / "cache"
    (lists / "partial").mkdir(parents=True)
    (cache / "archives/partial").mkdir(parents=True)
    key = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (folder / "sources.list").write_text(f"deb [signed-by={key}] {sources[0]} bookworm-backports main\n")
    options = ["-o", f"Dir::Etc::sourcelist={folder / 'sources.list'}", "-o", "Dir::Etc::sourceparts=-", "-o", f"Dir::State::lists={lists}",
               "-o", f"Dir::Cache={cache}", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none"]
    for command in (["update"], ["download", "testssl.sh"]):
        done = subprocess.run(["apt-get", "-qq", *options, *command], cwd=folder, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            sys.exit(f"apt-get {command[0]} of bookworm-backports failed: {done.stderr.strip()[-500:]}")
    package, = folder.glob("testssl.sh_*.deb")
    subprocess.run(["dpkg", "-x", str(package), str(folder / "root")], check=True)
    return folder / "root/usr/bin/testssl", {**os.environ, "TESTSSL_INSTALL_DIR": str(folder / "root/etc/testssl")}


def make_certificates(folder):
    def run(*command):
        subprocess.run(["openssl", *command], check=True, capture_output=True, cwd=folder)

    run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
        "-days", "800", "-subj", "/CN=Test Authority", "-addext", "basicConstraints=critical,CA:TRUE",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "key.pem", "-out", "leaf.csr",
        "-subj", "/CN=localhost")
    (folder / "ext").write_text("subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\nkeyUsage=digitalSignature\n"
                                "basicConstraints=CA:FALSE\n")
    run("x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "leaf.pem", "-days", "300",
        "-extfile", "ext")
    (folder / "chain.pem").write_text((folder / "leaf.pem").read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--json", help="where to keep the findings")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        program, environment = unpack_testssl(folder)
        make_certificates(folder)
        port = free_port()
        with Server(options.binary, "--tls-port", str(port), "--certificate", str(folder / "chain.pem"), "--key", str(folder / "key.pem")):
            subprocess.run(
                [str(program), "--quiet", "--warnings", "off", "--color", "0", "--nodns", "none", "--ip", "127.0.0.1", "--add-ca",
                 str(folder / "ca.pem"), "--jsonfile", str(folder / "findings.json"), f"localhost:{port}"],
                cwd=folder, env=environment, timeout=900, stdout=open(folder / "out", "w"), stdin=subprocess.DEVNULL)
            findings = json.loads((folder / "findings.json").read_text())
    if len(findings) < 50:
        sys.exit(f"testssl.sh ended early: {len(findings)} findings")
    wrong = [found for found in findings
             if found["severity"] not in GOOD and found["id"].split(" ")[0] not in OF_THE_CERTIFICATE | OF_THE_PAGE | OF_THE_PROGRAM]
    for found in wrong:
        print(f"{found['severity']}: {found['id']}: {found['finding']}")
    grade = next((found["finding"] for found in findings if found["id"] == "overall_grade"), "none")
    print(f"testssl.sh: {len(findings)} findings, {len(wrong)} above INFO that are the server's; grade {grade}")
    if options.json:
        kept = [{key: found[key] for key in ("id", "severity", "finding")} for found in findings]
        Path(options.json).write_text(json.dumps(kept, indent=1) + "\n")
    sys.exit(1 if wrong or grade not in GRADES else 0)


if __name__ == "__main__":
    main()
