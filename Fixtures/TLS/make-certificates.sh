#!/bin/sh
# Makes the certificates of the TLS tests: make-certificates.sh FOLDER
#
# They are made at each test run and not kept: a key in a repository is found by every scanner, and a certificate in it expires.
# Each NAME.pem has its key in NAME.key. They sign themselves, but for `chained`, and `trust.pem` holds all that a client should trust.
set -eu

cd "$1"
printf '[req]\ndistinguished_name = dn\nprompt = no\n[dn]\nCN = tocsin test\n' >request.cnf
p256="-newkey ec -pkeyopt ec_paramgen_curve:P-256"
leaf="-addext basicConstraints=critical,CA:FALSE"
authority="-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign"

# make NAME SUBJECT OPTIONS...
make() {
    name=$1
    subject=$2
    shift 2
    openssl req -x509 -config request.cnf -nodes -days 30 -subj "/CN=$subject" -keyout "$name.key" -out "$name.pem" "$@" 2>>log
}

# Names that two kinds of key serve together, each with one more of its own.
make ecdsa ecdsa $p256 $leaf -addext subjectAltName=DNS:a.example,DNS:www.a.example,DNS:only-ecdsa.example
make rsa rsa -newkey rsa:2048 $leaf -addext subjectAltName=DNS:a.example,DNS:WWW.A.example,DNS:only-rsa.example
# A wildcard, and a name below it with a certificate of its own. DNS names and addresses.
make wildcard wildcard $p256 $leaf -addext subjectAltName=DNS:b.example,DNS:*.b.example
make special special $p256 $leaf -addext subjectAltName=DNS:special.b.example,IP:127.0.0.1,IP:::1
# What replaces `ecdsa` when certificates are reloaded: one name more.
make renewed renewed $p256 $leaf -addext subjectAltName=DNS:a.example,DNS:new.a.example
# No names at all.
make nameless nameless $p256 $leaf
# A leaf below an intermediate certificate below a root that alone is trusted.
make root root $p256 $authority
make intermediate intermediate $p256 $authority -CA root.pem -CAkey root.key
make chained chained $p256 $leaf -CA intermediate.pem -CAkey intermediate.key -addext subjectAltName=DNS:c.example
cat intermediate.pem >>chained.pem
# The same leaf with its chain in the wrong order, with the root behind it, and alone.
openssl x509 -in chained.pem -out alone.pem
cat alone.pem root.pem intermediate.pem >disordered.pem
cat chained.pem root.pem >rooted.pem
cp chained.key alone.key
cp chained.key disordered.key
cp chained.key rooted.key
# Asks for OCSP stapling.
make muststaple muststaple $p256 $leaf -CA intermediate.pem -CAkey intermediate.key -addext tlsfeature=status_request \
    -addext subjectAltName=DNS:staple.example
cat intermediate.pem >>muststaple.pem
# What the tool makes of "good" and "revoked", and somebody to whom the intermediate authority gave leave to say so.
serial() { openssl x509 -noout -serial -in "$1" | cut -d= -f2; }
{
    printf 'V\t491231235959Z\t\t%s\tunknown\t/CN=chained\n' "$(serial chained.pem)"
    printf 'R\t491231235959Z\t250101000000Z\t%s\tunknown\t/CN=muststaple\n' "$(serial muststaple.pem)"
} >index.txt
make responder responder $p256 $leaf -CA intermediate.pem -CAkey intermediate.key -addext extendedKeyUsage=OCSPSigning
for name in chained muststaple; do
    openssl ocsp -index index.txt -CA intermediate.pem -rsigner responder.pem -rkey responder.key -issuer intermediate.pem \
        -cert "$name.pem" -ndays 7 -respout "$name.ocsp" >>log 2>&1
done

# Clients: an authority, who has a certificate of it, who has one for servers only, one that has expired, and one of somebody else.
make authority authority $p256 $authority
of_authority="-CA authority.pem -CAkey authority.key"
for_clients="-addext extendedKeyUsage=clientAuth"
make device device $p256 $leaf $of_authority $for_clients -utf8 -subj "/O=Example, Inc./CN=device 7"
make umlaut umlaut $p256 $leaf $of_authority $for_clients -utf8 -subj "/CN=$(printf 'J\303\274rgen\nroot')"
make serving serving $p256 $leaf $of_authority -addext extendedKeyUsage=serverAuth
make other-authority other-authority $p256 $authority
make stranger stranger $p256 $leaf -CA other-authority.pem -CAkey other-authority.key $for_clients
openssl req -new -config request.cnf -key device.key -subj /CN=expired -out expired.csr 2>>log
openssl x509 -req -in expired.csr $of_authority -days 0 -out expired.pem 2>>log
cp device.key expired.key

# Below the security level.
make weak weak -newkey rsa:1024 $leaf -addext subjectAltName=DNS:weak.example

cat ecdsa.pem rsa.pem wildcard.pem special.pem renewed.pem nameless.pem root.pem >trust.pem
cat ecdsa.key ecdsa.pem >combined.pem
openssl pkey -in ecdsa.key -aes128 -passout pass:secret -out encrypted.key
{ cat ecdsa.pem; printf -- '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'; } >damaged.pem
printf 'no certificate and no key\n' >text.pem
