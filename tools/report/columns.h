/*
 * Curves of any length for a picture of bounded width: points are put into
 * columns, each of which keeps the least and the greatest of its values, so that
 * no spike is lost, and how high a mean stands at its end. The mean reaches back and
 * ahead alike, with weights that fall off exponentially, so that it does not
 * lag behind what it is the mean of.
 */
#ifndef STAGECOACH_TOOLS_REPORT_COLUMNS_H
#define STAGECOACH_TOOLS_REPORT_COLUMNS_H

#include "base/compiler.h"

/* More than a chart has pixels. */
#define COLUMNS_MAX 1200

struct column {
	double step; /* of its last point */
	double low;
	double high;
	double smooth; /* after its last point */
	bool follows;  /* the point before is that of the step before */
};

struct columns {
	unsigned count;
	bool whole;       /* every point has a column of its own */
	double low, high; /* of all */
	size_t lost;      /* points without a finite value */
	struct column column[COLUMNS_MAX];
};

/*
 * Of `count` points with ascending steps; those whose value is not finite are
 * left out. `span`: points the mean reaches to either side, about; 1 or less:
 * none. Between columns that do not follow each other, steps are missing.
 * -ENOMEM, silent.
 */
int columns_fill(const double *step, const double *value, size_t count,
		 double span, struct columns *out) MUST_CHECK;

/*
 * 4 to 7 round ticks within [low, high], ascending, into ticks; whole numbers
 * only, if so asked. Their number.
 */
#define COLUMNS_TICKS_MAX 12
unsigned columns_ticks(double low, double high, bool whole,
		       double ticks[COLUMNS_TICKS_MAX]);

/* Powers of ten within [low, high], thinned out to at most 8. */
unsigned columns_log_ticks(double low, double high,
			   double ticks[COLUMNS_TICKS_MAX]);

#endif
