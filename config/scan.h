/* config/scan.h - what must hold for the bytes before a YAML parser sees them. */
#ifndef CONFIG_SCAN_H
#define CONFIG_SCAN_H

#include "config/report.h"

/* Valid UTF-8, no control characters but tab and line ends, no tab in an indentation, no
 * %DIRECTIVE.
 * @return 0; -1 with the place in the report */
CONFIG_MUST_USE int scan_bytes(const struct report *report, const char *bytes, size_t len);

/* Is there a control character (line ends included) in this valid UTF-8 text? */
bool scan_has_control(const char *text, size_t len);

#endif
