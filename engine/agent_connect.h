/* How an agent finds the coordinator and is let in. Private to the agent. */
#ifndef STAGECOACH_ENGINE_AGENT_CONNECT_H
#define STAGECOACH_ENGINE_AGENT_CONNECT_H

#include "engine/address.h"
#include "engine/agent.h"
#include "engine/control.h"

#define AGENT_SESSION_BYTES 32

/* What came of it: the connection for as long as the agent lives. */
struct agent_session {
	struct control_channel channel;
	struct address coordinator; /* where it was found */
	char session[AGENT_SESSION_BYTES];
};

/*
 * Tries all addresses there may be, again and again, until one lets us in or
 * the time is up. *stopped is looked at in between. Logged.
 */
int agent_connect(const struct agent_config *config,
		  struct agent_session *out) MUST_CHECK;

/* One more connection to the same coordinator, for a rank. */
int agent_connect_again(const struct agent_config *config,
			const struct agent_session *session,
			struct control_channel *out) MUST_CHECK;

#endif
