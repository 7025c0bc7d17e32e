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
# Below the security level.
make weak weak -newkey rsa:1024 $leaf -addext subjectAltName=DNS:weak.example

cat ecdsa.pem rsa.pem wildcard.pem special.pem renewed.pem nameless.pem root.pem >trust.pem
cat ecdsa.key ecdsa.pem >combined.pem
openssl pkey -in ecdsa.key -aes128 -passout pass:secret -out encrypted.key
{ cat ecdsa.pem; printf -- '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'; } >damaged.pem
printf 'no certificate and no key\n' >text.pem
