/*
 * The exchange: moves the messages of a pass over the rank's endpoint.
 *
 * Receives are posted ahead, in the route's order, `ahead` of them a link,
 * into the slots that will use them; a wait for one message keeps all
 * others moving. Time spent waiting is counted.
 *
 * The first failure sticks: every later call returns it. Nothing here blocks
 * after another rank has failed (world_wait() sees to that).
 */
#ifndef STAGECOACH_ENGINE_EXCHANGE_H
#define STAGECOACH_ENGINE_EXCHANGE_H

#include "engine/route.h"
#include "engine/world.h"

struct exchange;

/*
 * Where a message goes that has no place of its own: the engine claims a slot
 * of the receiving stage.
 */
typedef void *exchange_place_fn(void *argument, const struct message *message);

/* A message on its way out; its memory may change again when not busy. */
struct outgoing {
	void *own;   /* registered memory of `bytes`, the sender's */
	void *where; /* where the message is computed (exchange_acquire) */
	bool busy;
};

int exchange_create(struct world *world, unsigned ahead,
		    exchange_place_fn *place, void *argument,
		    struct exchange **out) MUST_CHECK;
void exchange_destroy(struct exchange *exchange);

/* Begins a pass: posts the first receives of every link. */
int exchange_begin(struct exchange *exchange, struct route *route,
		   uint64_t step) MUST_CHECK;

/*
 * Waits until the message has arrived; its data are the caller's until
 * exchange_take(), which lets the link post one receive more.
 */
int exchange_await(struct exchange *exchange,
		   struct message *message) MUST_CHECK;
int exchange_take(struct exchange *exchange,
		  struct message *message) MUST_CHECK;

/*
 * Sending in two moves: acquire writes to out->where the place to compute the
 * message in (the receiver's own slot if the transport can), waiting until
 * out->own is free; post hands it over. Both name the message the receiver
 * has in its route: kind, stage, micro_batch, bytes, with peer the
 * receiver.
 */
int exchange_acquire(struct exchange *exchange, const struct message *message,
		     struct outgoing *out) MUST_CHECK;
int exchange_post(struct exchange *exchange, const struct message *message,
		  struct outgoing *out) MUST_CHECK;

/* In one move, from registered memory; busy until the transport lets go. */
int exchange_send(struct exchange *exchange, const struct message *message,
		  const void *data, bool *busy) MUST_CHECK;
int exchange_await_sent(struct exchange *exchange, const bool *busy) MUST_CHECK;

/*
 * Without waiting: try_send is exchange_send() where there is room, else
 * -EAGAIN; poll says whether a message of an inbox has arrived.
 */
int exchange_try_send(struct exchange *exchange, const struct message *message,
		      const void *data, bool *busy) MUST_CHECK;
bool exchange_poll(struct exchange *exchange, struct inbox *inbox,
		   const struct message *message);

/* Blocks until something completes: data of `peer`, or room there, it hopes. */
int exchange_pause(struct exchange *exchange, enum liveness_wait wait,
		   unsigned peer) MUST_CHECK;

/*
 * What there is to do while others are waited for: called before every wait
 * until it returns false, and once a breath; it waits for nothing itself.
 */
typedef bool exchange_work_fn(void *argument);
void exchange_set_work(struct exchange *exchange, exchange_work_fn *work,
		       void *argument);

/*
 * A message that is no part of a pass, with its memory and size, while no pass
 * is under way: expect posts its receive (several of one peer in the order in
 * which it sends them), await_expected waits until it is there.
 */
int exchange_expect(struct exchange *exchange,
		    struct message *message) MUST_CHECK;
int exchange_await_expected(struct exchange *exchange,
			    const struct message *message) MUST_CHECK;

/*
 * Ends a pass: waits until everything sent has left. Whoever goes on to wait
 * for other ranks elsewhere (a barrier) no longer moves messages.
 */
int exchange_flush(struct exchange *exchange) MUST_CHECK;

/* 0, or what the first failure was: no message passes any more. */
int exchange_error(const struct exchange *exchange);

/* Nothing is under way, and nothing has failed. */
bool exchange_is_idle(const struct exchange *exchange);

/* Keeps messages moving, without waiting; errors show at the next call. */
void exchange_breathe(void *exchange);
/* The same where the last breath is a while ago: to be called at will. */
void exchange_breathe_often(void *exchange);

/* Nanoseconds spent waiting since exchange_begin(). */
int64_t exchange_waited_ns(const struct exchange *exchange);

#endif
