/* mta/submit/trust.h - may this client hand in mail, and in whose name? Decided here and nowhere
 * else. Pure: what is known of the client comes in as values. */
#ifndef MTA_SUBMIT_TRUST_H
#define MTA_SUBMIT_TRUST_H

#include "config/config.h"
#include "mta/auth/users.h"
#include "mta/smtp/address.h"
#include "mta/smtp/server.h"

/* What is known of a client at this moment. All strings borrowed. */
struct trust_client {
    bool is_unix; /* came by a socket in the file system; else address and ipv6 count */
    bool ipv6;
    uint8_t address[16]; /* IPv4: the first 4 */
    bool tls;
    bool tls_possible;      /* the listener has a certificate and offers TLS, or the client has TLS */
    const char *login;      /* the name that AUTH proved, or NULL */
    bool has_certificate;   /* verified against client_ca; its names: */
    const char *const *dns_names;
    size_t dns_name_count;
};

/* The right to hand in mail; the first ground that holds. */
enum trust {
    TRUST_NONE,
    TRUST_LOGIN,
    TRUST_NETWORK,
    TRUST_UNIX, /* who may open the socket is the file system's matter */
    TRUST_CERTIFICATE,
};

/* `auth: required` leaves TRUST_LOGIN as the only ground, whatever else is true. */
enum trust trust_of(const struct config_listener *listener, const struct trust_client *client);

/* Is it a program of this machine: by a socket or from a loopback address? */
bool trust_is_local(const struct trust_client *client);

/* May a password come in at this moment: under TLS, or in clear from this machine where
 * cleartext_auth says loopback? False where the listener has no AUTH. */
bool trust_may_log_in(const struct config_listener *listener, const struct trust_client *client);

/* What to say to MAIL of a client without the right: 530 5.7.0 where a login would give it, 554 5.7.1
 * where nothing would. shown: the client's address for the text. */
void trust_refusal(const struct config_listener *listener, const struct trust_client *client,
                   const char *shown, struct smtp_verdict *verdict_out);

/* May the user send from this address (MAIL FROM, complete)? @return false: 553 5.7.1 for the developer
 * of his application: what was tried, what is allowed, where to change either. */
MUST_USE bool trust_sender(const struct auth_user *user, struct str sender,
                           struct smtp_verdict *verdict_out);

/* May he be whom From names in this header section? The envelope alone would be no limit: people see
 * From, and DKIM vouches for its domain. @return false: 554 5.7.1, likewise; also where From cannot be
 * read, since others may read it */
MUST_USE bool trust_author(const struct auth_user *user, struct str section,
                           struct smtp_verdict *verdict_out);

#endif
