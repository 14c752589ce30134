/* queue/backup.h - the bytes of a backup file. Private to queue/.
 *
 * A header line, then blocks: le32 length, le32 CRC-32C of what follows, then rows, each le8 letter
 * of the database, le16 length of the key, le32 length of the value, key, value. The databases come
 * one after the other, each in the order of its keys. The last block has no rows but the number of
 * those before it (le64): a file that was cut short does not have it. */
#ifndef QUEUE_BACKUP_H
#define QUEUE_BACKUP_H

#include "queue/store.h"

#define QUEUE_BACKUP_LINE  "mta queue backup 1\n"
#define QUEUE_BACKUP_HEAD  8                   /* octets of a block's header */
#define QUEUE_BACKUP_BLOCK ((size_t)256 << 10) /* a block is closed when it has so many bytes */
#define QUEUE_BACKUP_MAX   ((size_t)64 << 20)  /* and never has more */

/* '\0': the database is not copied. */
static inline char queue_backup_letter(enum queue_db db)
{
    static const char letters[] = {
        [QUEUE_DB_META] = 's',    [QUEUE_DB_MESSAGE] = 'm', [QUEUE_DB_BODY] = 'b',
        [QUEUE_DB_INCOMING] = 0,  [QUEUE_DB_FRESH] = 'f',   [QUEUE_DB_DUE] = 'd',
        [QUEUE_DB_NEXT] = 'n',    [QUEUE_DB_ATTEMPT] = 'a', [QUEUE_DB_CONTROL] = 'c',
        [QUEUE_DB_DAMAGED] = 'x',
    };
    return letters[db];
}

#endif
