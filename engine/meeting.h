/*
 * How ranks learn where rank 0 listens when nobody told them: by what mpirun
 * and srun offer their processes (PMIx), or by a small file in a folder that
 * all hosts share.
 */
#ifndef STAGECOACH_ENGINE_MEETING_H
#define STAGECOACH_ENGINE_MEETING_H

#include "base/compiler.h"

#define MEETING_TEXT_BYTES 1024 /* "10.0.0.2:4711,[fd00::2]:4711" */

/*
 * All ranks of the job call it, rank 0 with its addresses in `text`; the
 * others get them there. libpmix is opened when it is needed. -ENOSYS
 * (silent): there is no libpmix, or no server behind it. -ETIMEDOUT: a rank
 * did not come.
 */
int meeting_pmix(unsigned rank, char text[MEETING_TEXT_BYTES],
		 int64_t timeout_ns) MUST_CHECK;

/* Rank 0 writes, the others look now and then; -ENOENT (silent): not yet. */
int meeting_file_write(const char *path, const char *text) MUST_CHECK;
int meeting_file_read(const char *path,
		      char text[MEETING_TEXT_BYTES]) MUST_CHECK;

#endif
