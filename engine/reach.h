/*
 * Reach: which ranks see the files of a run as the root sees them.
 *
 * Ranks may be on hosts that share no file system. A rank that has the root's
 * folder before it writes its tensors into a checkpoint, and reads them,
 * itself; the tensors of the others pass through the root
 * (engine/checkpoint_tensors.h). Device and inode numbers mean nothing on another
 * host, so the ranks find out:
 *
 *  - Of RUN: the root puts a file of a random name and text into it, and
 *    whoever finds that file by the same path, with that text, and may
 *    write to it, has RUN.
 *  - Of a folder to read weights from, which may be anyone's: the names, sizes,
 *    inode numbers and times (of data and of status, to the nanosecond) of
 *    its weights are compared. Hosts that mount one file system see the
 *    same; a copy has other times, and is not taken for the original.
 *
 * When in doubt a rank does not see it: that costs time, and nothing else.
 */
#ifndef STAGECOACH_ENGINE_REACH_H
#define STAGECOACH_ENGINE_REACH_H

#include "base/files.h"

struct job;
struct world;

enum reach_mode {
	REACH_AUTO,   /* find out */
	REACH_SHARED, /* all see everything; the weights are compared */
	REACH_ROOT,   /* the root alone does */
};

struct reach {
	/* Whole paths, the root's: RUN, and where weights are read; or "". */
	char run[FILES_PATH_BYTES];
	char source[FILES_PATH_BYTES];
	bool *writes; /* [ranks] RUN */
	bool *reads;  /* [ranks] the source */
};

/* What the mode alone says (AUTO: all see everything). -ENOMEM, logged. */
int reach_assume(const struct job *job, unsigned ranks,
		 struct reach *out) MUST_CHECK;

/*
 * Finds out, after reach_assume(); all ranks call it together. The root says
 * which ranks see less than it does. Negative errno, logged: on the root, when
 * RUN is not there or it cannot write to it.
 */
int reach_find(struct world *world, const struct job *job,
	       struct reach *reach) MUST_CHECK;

/*
 * Whether all ranks have the same weights to read, as far as a sample tells; part
 * of reach_find(). -EINVAL on the root, logged; -ECANCELED on the others.
 */
int reach_compare(struct world *world, const struct reach *reach) MUST_CHECK;

/* A file of this name has weights, or says where they are. */
bool reach_is_of_weights(const char *name);

void reach_fini(struct reach *reach);

#endif
