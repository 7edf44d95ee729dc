/*
 * The page of `schedule compare --html`: one file of HTML that needs no network,
 * made of a template (tools/pages/compare.html) and the comparison in JSON.
 *
 * The comparison is what `schedule compare --json` prints, with the timelines
 * (timeline_to_json(), times in `unit`) that the JSON leaves out:
 *
 * {"title": text, "ranks": 4, "micro_batches": 8,
 *  "unit": "s", or "" where costs are plain numbers,
 *  "costs": text, "links": text,
 *  "memory_cap": bytes of a rank's activations, or null,
 *  "activation_unit": "bytes" or "micro-batches",
 *  "schedules": [
 *   {"name": "1f1b", "title": text, "chunks": 1, "placement": "loop" or "V",
 *    "bit_identical": true,
 *    "predicted": {
 *     "step_time": 0.4, "bubble": mean share of a step not spent computing,
 *     "peak_activations": [per rank, micro-batches through its slice],
 *     "peak_bytes": [per rank] or null, "bytes_sent": [per rank],
 *     "buffers_safe": 1, "buffers_full_speed": 1},
 *    "measured": {
 *     "step_time": 0.41, "bubble": 0.3, "error": (measured - predicted) /
 *     predicted, "steps": 9, "best": 0.4, "worst": 0.42}, or absent
 *    "rank_of_stage": [per stage],
 *    "activation_bytes": [per stage], or null: 1 / chunks of a micro-batch
 *    "predicted_timeline": timeline, "measured_timeline": timeline, or absent},
 *   {"name": "dualpipe-v", "title": text, "refused": why}]}
 */
#ifndef STAGECOACH_TOOLS_COMPARE_PAGE_H
#define STAGECOACH_TOOLS_COMPARE_PAGE_H

#include "base/json.h"

/*
 * Writes the page durably, replacing what is there, or not at all: a negative
 * errno, logged. The document is only read; no text of it can become markup.
 */
int compare_page_write(const char *path, const json_t *document) MUST_CHECK;

#endif
