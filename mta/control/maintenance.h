/* mta/control/maintenance.h - `queue check`, `queue backup`, `queue compact` of the running daemon.
 *
 * A check and a backup read one state of the queue for long: a thread of their own does that, one
 * at a time. What it has to say waits in a bounded buffer until the client takes it; a client that
 * leaves, or takes nothing for a while, ends it. Main loop, but for the thread. */
#ifndef MTA_CONTROL_MAINTENANCE_H
#define MTA_CONTROL_MAINTENANCE_H

#include "mta/control/control_private.h"

void command_queue_check(struct control_client *client);
void command_queue_backup(struct control_client *client);
void command_queue_compact(struct control_client *client);

/* The next part for a client that can take it. */
void maintenance_step(struct control_client *client);
/* Ends the thread and waits for it; the handles close on the loop's next turns. Does nothing if
 * none is at work. */
void maintenance_stop(struct control *control);

#endif
