// What of OpenSSL 3.0 Swift cannot import: macros that hide a call of SSL_CTX_ctrl, SSL_ctrl or BIO_ctrl, and options that are built
// by a macro with an argument. Each function below is one such macro under the name COpenSSL_<macro>; nothing else belongs here.

#ifndef COPENSSL_SHIM_H
#define COPENSSL_SHIM_H

#include <linux/tls.h>
#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/ocsp.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

// Macros over SSL_OP_BIT(n), which takes an argument, so that the importer skips them.
static const uint64_t COpenSSL_OP_NO_RENEGOTIATION = SSL_OP_NO_RENEGOTIATION;
static const uint64_t COpenSSL_OP_NO_COMPRESSION = SSL_OP_NO_COMPRESSION;
static const uint64_t COpenSSL_OP_CIPHER_SERVER_PREFERENCE = SSL_OP_CIPHER_SERVER_PREFERENCE;
static const uint64_t COpenSSL_OP_PRIORITIZE_CHACHA = SSL_OP_PRIORITIZE_CHACHA;
static const uint64_t COpenSSL_OP_ENABLE_MIDDLEBOX_COMPAT = SSL_OP_ENABLE_MIDDLEBOX_COMPAT;
static const uint64_t COpenSSL_OP_NO_TICKET = SSL_OP_NO_TICKET;
static const uint64_t COpenSSL_OP_ENABLE_KTLS = SSL_OP_ENABLE_KTLS;

// Macro over other macros, some of which the importer skips.
static const unsigned long COpenSSL_XN_FLAG_RFC2253 = XN_FLAG_RFC2253;

// Macro over SSL_CTX_ctrl.
static inline int COpenSSL_SSL_CTX_set_min_proto_version(SSL_CTX *context, int version) {
    return (int)SSL_CTX_set_min_proto_version(context, version);
}

// Macro over SSL_CTX_ctrl.
static inline int COpenSSL_SSL_CTX_set_max_proto_version(SSL_CTX *context, int version) {
    return (int)SSL_CTX_set_max_proto_version(context, version);
}

// Macro over SSL_CTX_ctrl.
static inline void COpenSSL_SSL_CTX_set_mode(SSL_CTX *context, long mode) {
    SSL_CTX_set_mode(context, mode);
}

// Macro over SSL_CTX_ctrl.
static inline void COpenSSL_SSL_CTX_set_session_cache_mode(SSL_CTX *context, long mode) {
    SSL_CTX_set_session_cache_mode(context, mode);
}

// Macro over SSL_CTX_ctrl.
static inline int COpenSSL_SSL_CTX_set1_groups_list(SSL_CTX *context, const char *list) {
    return (int)SSL_CTX_set1_groups_list(context, list);
}

// Macro over SSL_CTX_ctrl, with a cast that drops const.
static inline int COpenSSL_SSL_CTX_set1_sigalgs_list(SSL_CTX *context, const char *list) {
    return (int)SSL_CTX_set1_sigalgs_list(context, list);
}

// Macro over SSL_CTX_ctrl.
static inline void COpenSSL_SSL_CTX_set_max_cert_list(SSL_CTX *context, long bytes) {
    SSL_CTX_set_max_cert_list(context, bytes);
}

// Macro over SSL_CTX_callback_ctrl, which casts the function to one without arguments.
static inline void COpenSSL_SSL_CTX_set_tlsext_status_cb(SSL_CTX *context, int (*callback)(SSL *, void *)) {
    SSL_CTX_set_tlsext_status_cb(context, callback);
}

// Macro over SSL_CTX_ctrl.
static inline void COpenSSL_SSL_CTX_set_tlsext_status_arg(SSL_CTX *context, void *argument) {
    SSL_CTX_set_tlsext_status_arg(context, argument);
}

// Macro over SSL_ctrl. The session takes the bytes, which OPENSSL_malloc gave.
static inline void COpenSSL_SSL_set_tlsext_status_ocsp_resp(SSL *session, unsigned char *bytes, long count) {
    SSL_set_tlsext_status_ocsp_resp(session, bytes, count);
}

// Macro over SSL_CTX_callback_ctrl, which casts the function to one without arguments.
static inline void COpenSSL_SSL_CTX_set_tlsext_servername_callback(SSL_CTX *context, int (*callback)(SSL *, int *, void *)) {
    SSL_CTX_set_tlsext_servername_callback(context, callback);
}

// Macro over SSL_CTX_ctrl.
static inline void COpenSSL_SSL_CTX_set_tlsext_servername_arg(SSL_CTX *context, void *argument) {
    SSL_CTX_set_tlsext_servername_arg(context, argument);
}

// Macro over SSL_ctrl, with a cast that drops const.
static inline int COpenSSL_SSL_set_tlsext_host_name(SSL *session, const char *name) {
    return (int)SSL_set_tlsext_host_name(session, name);
}

// Macros over BIO_set_flags and BIO_clear_flags.
static inline void COpenSSL_BIO_set_retry_read(BIO *bio) {
    BIO_set_retry_read(bio);
}

static inline void COpenSSL_BIO_clear_retry_flags(BIO *bio) {
    BIO_clear_retry_flags(bio);
}

#endif
