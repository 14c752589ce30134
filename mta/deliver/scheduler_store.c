/* mta/deliver/scheduler_store.c - what the scheduler knows of the store: when each lane of a domain
 * in memory has its next entry there, and which lanes draw when. See scheduler.h.
 *
 * A domain that is not in memory is covered by the store's `next`. For one that is, next_unix_ms is
 * a lower bound of all its entries that are not in memory: set at the end of a draw, lowered by
 * each entry that comes. Nothing is looked for in vain, nothing is polled. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "mta/deliver/scheduler_private.h"

#define IDLE_FORGET_MS UINT64_C(600000)
#define FORGET_STEP    1000 /* domains forgotten at a time */
#define DOUBT_FIRST_MS 1000 /* until a doubtful lane is read again; doubles each time in vain */
#define DOUBTS_MAX     9    /* 8.5 minutes */
#define DRAW_MIN       64   /* a draw for fewer is not worth it, unless the window is small */

/* ---- windows ---- */

/* The first domain gets about an eighth of the memory, each further one that gets nothing done
 * less: a few hundred of them fill three quarters. In the last one each domain may have a single
 * unit, so that a further one finds a place all the same. */
size_t scheduler_window(const struct scheduler *s)
{
    size_t room = s->slots.count < s->units_max ? s->units_max - s->slots.count : 0;
    size_t usable = room > s->units_max / 4 ? room - s->units_max / 4 : 0;
    if (usable == 0)
        return room > 0 ? 1 : 0;
    return (size_t)((uint64_t)usable * usable / (3 * (uint64_t)s->units_max)) + 4;
}

size_t lane_window(size_t window)
{
    return window - window / 4;
}

/* In half windows, not for each unit. */
static bool may_draw(const struct scheduler *s, const struct lane *lane)
{
    size_t window = scheduler_window(s);
    size_t least = window / 8 < DRAW_MIN ? window / 8 : DRAW_MIN;
    return lane->units <= lane_window(window) / 2 && lane->domain->units + least < window;
}

bool scheduler_has_room(struct scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    bool room = !s->stopping && scheduler_window(s) > 0;
    pthread_mutex_unlock(&s->lock);
    return room;
}

/* ---- the heap: lanes by next_unix_ms ---- */

static void heap_set(struct scheduler *s, size_t at, struct lane *lane)
{
    s->heap[at] = lane;
    lane->heap_index = at;
}

static void heap_up(struct scheduler *s, struct lane *lane)
{
    size_t at = lane->heap_index;
    while (at > 0 && s->heap[(at - 1) / 2]->next_unix_ms > lane->next_unix_ms) {
        heap_set(s, at, s->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_set(s, at, lane);
}

static void heap_down(struct scheduler *s, struct lane *lane)
{
    size_t at = lane->heap_index;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= s->heap_count)
            break;
        if (child + 1 < s->heap_count &&
            s->heap[child + 1]->next_unix_ms < s->heap[child]->next_unix_ms)
            child++;
        if (s->heap[child]->next_unix_ms >= lane->next_unix_ms)
            break;
        heap_set(s, at, s->heap[child]);
        at = child;
    }
    heap_set(s, at, lane);
}

static void heap_add(struct scheduler *s, struct lane *lane)
{
    if (s->heap_count == s->heap_size) {
        s->heap_size = s->heap_size == 0 ? 64 : s->heap_size * 2;
        /* NOLINTNEXTLINE(bugprone-sizeof-expression): an array of pointers it is */
        s->heap = mem_grow(s->heap, s->heap_size * sizeof *s->heap);
    }
    lane->heap_index = s->heap_count;
    s->heap[s->heap_count++] = lane;
    heap_up(s, lane);
}

static void heap_remove(struct scheduler *s, struct lane *lane)
{
    struct lane *last = s->heap[--s->heap_count];
    if (last == lane)
        return;
    heap_set(s, lane->heap_index, last);
    heap_up(s, last);
    heap_down(s, last);
}

/* ---- where a lane stands ---- */

static void lane_list_add(struct lane_list *list, struct lane *lane)
{
    lane->place_next = NULL;
    lane->place_prev = list->tail;
    if (list->tail != NULL)
        list->tail->place_next = lane;
    else
        list->head = lane;
    list->tail = lane;
    list->count++;
}

static void lane_list_remove(struct lane_list *list, struct lane *lane)
{
    if (lane->place_prev != NULL)
        lane->place_prev->place_next = lane->place_next;
    else
        list->head = lane->place_next;
    if (lane->place_next != NULL)
        lane->place_next->place_prev = lane->place_prev;
    else
        list->tail = lane->place_prev;
    lane->place_prev = lane->place_next = NULL;
    list->count--;
}

void lane_take_out(struct scheduler *s, struct lane *lane)
{
    switch ((enum lane_place)lane->place) {
    case LANE_TIMED:
        heap_remove(s, lane);
        break;
    case LANE_READY:
        lane_list_remove(&s->ready, lane);
        break;
    case LANE_HUNGRY:
        lane_list_remove(&s->hungry, lane);
        break;
    case LANE_NOWHERE:
    case LANE_DRAWING:
        break;
    }
    lane->place = LANE_NOWHERE;
}

static bool is_due(const struct scheduler *s, const struct lane *lane)
{
    if (lane->next_unix_ms == QUEUE_NEVER)
        return false;
    return lane->next_unix_ms <= s->now_unix_ms || lane->next_unix_ms > s->horizon_unix_ms;
}

/* Put it where its time says; not while it is being drawn. */
static void settle_place(struct scheduler *s, struct lane *lane)
{
    enum lane_place to = is_due(s, lane)                     ? LANE_READY
                         : lane->next_unix_ms == QUEUE_NEVER ? LANE_NOWHERE
                                                             : LANE_TIMED;
    if (lane->place == LANE_DRAWING || (to == LANE_READY && lane->place >= LANE_READY))
        return;
    lane_take_out(s, lane);
    lane->place = (uint8_t)to;
    if (to == LANE_TIMED)
        heap_add(s, lane);
    if (to == LANE_READY)
        lane_list_add(&s->ready, lane);
    scheduler_check_idle(s, lane->domain);
}

void lane_lower(struct scheduler *s, struct lane *lane, int64_t due_unix_ms)
{
    if (due_unix_ms >= lane->next_unix_ms)
        return;
    lane->next_unix_ms = due_unix_ms;
    settle_place(s, lane);
}

void lane_doubt(struct scheduler *s, struct lane *lane, int64_t wall_ms)
{
    if (!lane->unsure) {
        lane->unsure = true;
        lane_lower(s, lane, wall_ms + ((int64_t)DOUBT_FIRST_MS << lane->doubts));
        if (lane->doubts < DOUBTS_MAX)
            lane->doubts++;
    }
    scheduler_check_idle(s, lane->domain);
}

/* ---- time ---- */

void scheduler_set_time(struct scheduler *s, int64_t now_unix_ms, int64_t horizon_unix_ms)
{
    pthread_mutex_lock(&s->lock);
    s->now_unix_ms = now_unix_ms;
    s->horizon_unix_ms = horizon_unix_ms;
    while (s->heap_count > 0 && is_due(s, s->heap[0])) {
        struct lane *lane = s->heap[0];
        settle_place(s, lane);
    }
    pthread_mutex_unlock(&s->lock);
}

int64_t scheduler_next_due(struct scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    int64_t next = s->heap_count > 0 ? s->heap[0]->next_unix_ms : QUEUE_NEVER;
    pthread_mutex_unlock(&s->lock);
    return next;
}

/* ---- news of the store ---- */

static bool note(struct scheduler *s, const char *name, enum queue_lane kind, int64_t due_unix_ms,
                 bool make, bool only_unknown)
{
    /* Fresh mail has room that the store's domains do not take. */
    struct domain *domain = scheduler_find_domain(s, name, make, s->domains_max / 8);
    if (domain == NULL) {
        s->domain_wanted = s->domain_wanted || make;
        return !make;
    }
    struct lane *lane = &domain->lanes[kind];
    if (!only_unknown || !lane->known)
        lane_lower(s, lane, due_unix_ms);
    scheduler_check_idle(s, domain);
    return true;
}

bool scheduler_note_due(struct scheduler *s, const char *name, enum queue_lane lane,
                        int64_t due_unix_ms, bool make)
{
    pthread_mutex_lock(&s->lock);
    bool noted = note(s, name, lane, due_unix_ms, make, false);
    pthread_mutex_unlock(&s->lock);
    return noted;
}

bool scheduler_mark(struct scheduler *s, const char *name, enum queue_lane lane,
                    int64_t due_unix_ms)
{
    pthread_mutex_lock(&s->lock);
    bool marked = note(s, name, lane, due_unix_ms, true, true);
    pthread_mutex_unlock(&s->lock);
    return marked;
}

void scheduler_doubt(struct scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    for (struct domain *domain = s->domains; domain != NULL; domain = domain->hh.next) {
        for (int kind = 0; kind < LANES; kind++) {
            domain->lanes[kind].known = false;
            settle_place(s, &domain->lanes[kind]); /* the horizon may have passed it */
        }
    }
    pthread_mutex_unlock(&s->lock);
}

/* ---- drawing ---- */

static bool begin_draw(struct scheduler *s, struct lane *lane, struct draw *draw)
{
    lane_take_out(s, lane);
    if (!may_draw(s, lane)) {
        lane->place = LANE_HUNGRY;
        lane_list_add(&s->hungry, lane);
        return false;
    }
    snprintf(draw->domain, sizeof draw->domain, "%s", lane->domain->name);
    draw->lane = (enum queue_lane)lane->kind;
    /* Of a lane not drawn so far, `next` may have told no more than an entry that came. */
    draw->from_unix_ms = lane->known && !lane->unsure ? lane->next_unix_ms : 0;
    draw->taken = 0;
    draw->doubted = lane->unsure;
    lane->place = LANE_DRAWING;
    lane->known = true; /* from here on, on_due tells */
    lane->unsure = false;
    lane->next_unix_ms = QUEUE_NEVER;
    return true;
}

bool scheduler_next_draw(struct scheduler *s, struct draw *draw)
{
    bool found = false;
    pthread_mutex_lock(&s->lock);
    while (!found && s->ready.head != NULL && !s->stopping)
        found = begin_draw(s, s->ready.head, draw);
    pthread_mutex_unlock(&s->lock);
    return found;
}

/* What is with a connection or the writer may have been made due again since, by an admin or
 * because its deferral is in the store already. */
static void pass(struct slot *slot, const struct queue_due_entry *entry)
{
    if (slot->state == SLOT_ACTIVE && slot->unit.due_unix_ms != entry->due_unix_ms)
        slot->passed = true;
}

enum offer scheduler_draw_unit(struct scheduler *s, struct draw *draw,
                               const struct queue_due_entry *entry)
{
    enum offer offer = OFFER_KNOWN;
    pthread_mutex_lock(&s->lock);
    struct domain *domain = scheduler_find_domain(s, draw->domain, false, 0);
    struct slot *slot = slots_find(&s->slots, entry->id, entry->unit);
    if (s->stopping || domain == NULL)
        offer = OFFER_STOPPED;
    else if (slot == NULL)
        offer = scheduler_add_unit(s, &domain->lanes[draw->lane], entry);
    else
        pass(slot, entry);
    draw->taken += offer == OFFER_TAKEN ? 1 : 0;
    pthread_mutex_unlock(&s->lock);
    return offer;
}

void scheduler_drawn(struct scheduler *s, const struct draw *draw, int64_t later_unix_ms)
{
    pthread_mutex_lock(&s->lock);
    struct domain *domain = scheduler_find_domain(s, draw->domain, false, 0);
    assert(domain != NULL); /* it is not idle while it draws */
    struct lane *lane = &domain->lanes[draw->lane];
    if (later_unix_ms < lane->next_unix_ms)
        lane->next_unix_ms = later_unix_ms;
    if (draw->doubted && draw->taken == 0)
        lane->doubts = 0;
    lane->place = LANE_NOWHERE;
    settle_place(s, lane);
    scheduler_check_idle(s, domain);
    pthread_mutex_unlock(&s->lock);
}

/* ---- room ---- */

static void let_look(struct scheduler *s, struct lane *lane)
{
    lane_list_remove(&s->hungry, lane);
    lane->place = LANE_READY;
    lane_list_add(&s->ready, lane);
    s->hooks.feed(s->hooks.ctx);
}

static void let_all_look(struct scheduler *s)
{
    s->finished = 0;
    for (size_t left = s->hungry.count; left > 0 && s->hungry.head != NULL; left--)
        let_look(s, s->hungry.head);
}

void scheduler_room_grew(struct scheduler *s, struct domain *domain)
{
    if (s->stopping)
        return;
    for (int kind = 0; kind < LANES; kind++) {
        struct lane *lane = &domain->lanes[kind];
        if (lane->place == LANE_HUNGRY && may_draw(s, lane))
            let_look(s, lane);
    }
    /* The windows of all others have grown a little as well. */
    s->finished++;
    if (s->finished > s->units_max / 16)
        let_all_look(s);
}

void scheduler_tidy(struct scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    uint64_t now_ms = s->hooks.monotonic_ms(s->hooks.ctx);
    for (int i = 0; i < FORGET_STEP && s->idle.head != NULL; i++) {
        if (s->idle.head->idle_since_ms + IDLE_FORGET_MS > now_ms)
            break;
        scheduler_drop_domain(s, s->idle.head);
    }
    if (s->finished > 0 && !s->stopping)
        let_all_look(s);
    pthread_mutex_unlock(&s->lock);
}
