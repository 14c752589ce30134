/* config/schema.h - the table of every setting: name, kind, place in the struct, default, bounds.
 *
 * A new setting is a row in schema.c and a field in config.h. A setting whose feature does not
 * exist yet is a row too, with `only`: it is refused with those words, never ignored. */
#ifndef CONFIG_SCHEMA_H
#define CONFIG_SCHEMA_H

#include "config/config.h"

enum schema_kind {
    SCHEMA_MAP,      /* map */
    SCHEMA_ABSENT,   /* feature not there: `only` or nothing */
    SCHEMA_WORD,     /* words -> their numbers */
    SCHEMA_BOOL,     /* true | false */
    SCHEMA_NUMBER,   /* min, max */
    SCHEMA_SIZE,     /* bytes; min, max */
    SCHEMA_DURATION, /* milliseconds; min, max; or one of the words, if there are any */
    SCHEMA_HOSTNAME,
    SCHEMA_DOMAIN,
    SCHEMA_SELECTOR,
    SCHEMA_USER,
    SCHEMA_PATH,    /* made absolute from the file's folder */
    SCHEMA_SOCKET,  /* as written; check.c puts it under state_dir */
    SCHEMA_LOG,     /* stderr | syslog | FILE; second: the file */
    SCHEMA_SOURCE4, /* second: presence flag */
    SCHEMA_SOURCE6, /* second: presence flag */
    SCHEMA_NETWORK,
    SCHEMA_LISTEN,    /* struct config_endpoint, unix:PATH too */
    SCHEMA_HTTP,      /* struct config_endpoint; second: presence flag */
    SCHEMA_SERVER,    /* struct config_endpoint, port 53 unless given */
    SCHEMA_HOP,       /* struct config_hop */
    SCHEMA_RECIPIENT, /* pattern */
    SCHEMA_MAILBOX,   /* local@domain */
    SCHEMA_ALIASES,   /* a mapping of names that the user chooses to struct config_alias */
};

enum schema_shape { SCHEMA_ONE, SCHEMA_LIST, SCHEMA_ONE_OR_LIST };

/* Where a value goes; size 0: nowhere. */
struct schema_field {
    uint16_t offset, size;
};

struct schema_word {
    const char *name; /* NULL ends the list */
    uint32_t value;
    bool absent; /* a word of the design whose feature is not there */
};

struct schema_key {
    const char *name;
    enum schema_kind kind;
    enum schema_shape shape;
    bool required;              /* in a mapping that is written */
    bool may_be_empty;          /* list: [] is a value */
    struct schema_field field;  /* list: of the pointer to its elements */
    struct schema_field second; /* list: of its count; else see the kind */
    size_t element;             /* list: size of one element */
    const struct schema_word *words;
    const struct schema_map *map;
    uint64_t min, max;
    const char *fallback; /* the default as text; of a list, separated by blanks. NULL: zero */
    const char *only;     /* the one value that means "absent"; others are not available */
};

struct schema_map {
    const char *name; /* dotted; "" at the top */
    const struct schema_key *keys;
    size_t count;
    struct schema_field line; /* where it stands in the file */
};

/* Every mapping; the first is the top. */
extern const struct schema_map *const schema_maps[];
extern const size_t schema_map_count;

const struct schema_key *schema_find(const struct schema_map *map, const char *name);

/* What to say about a key that `map` does not have: a near miss, where it belongs, what exists. */
struct schema_advice {
    char text[400];
};
struct schema_advice schema_advise(const struct schema_map *map, const char *name);

#endif
