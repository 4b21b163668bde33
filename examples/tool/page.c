/* The parts of an HTML page: style, script, text, tables. Nothing is loaded from anywhere. */
#include "report.h"

#include <math.h>
#include <string.h>

static const char *const style[] = {
    ":root{color-scheme:light dark;--page:#fbfbf9;--card:#fff;--ink:#1d2327;--soft:#5c666d;",
    "--rule:#dfe2e0;--level:#b9a88a;--c0:#0b62a8;--c1:#c8500a;--c2:#007a5a;--c3:#a8417f;",
    "--c4:#8a6d00;--c5:#3a8fc4;--c6:#555e65;--c7:#7a3fb5;--accent:#0b62a8}\n",
    "@media(prefers-color-scheme:dark){:root:not([data-theme=light]){--page:#14181b;",
    "--card:#1c2226;--ink:#e6eaec;--soft:#9aa6ad;--rule:#333c42;--level:#7d6f55;--c0:#63b3ee;",
    "--c1:#f2935c;--c2:#45c9a0;--c3:#e48fc0;--c4:#d9bd4a;--c5:#a3d5f5;--c6:#aab3b9;--c7:#bd97ec;",
    "--accent:#63b3ee}}\n",
    ":root[data-theme=dark]{color-scheme:dark;--page:#14181b;--card:#1c2226;--ink:#e6eaec;",
    "--soft:#9aa6ad;--rule:#333c42;--level:#7d6f55;--c0:#63b3ee;--c1:#f2935c;--c2:#45c9a0;",
    "--c3:#e48fc0;--c4:#d9bd4a;--c5:#a3d5f5;--c6:#aab3b9;--c7:#bd97ec;--accent:#63b3ee}\n",
    ":root[data-theme=light]{color-scheme:light}\n",
    "*{box-sizing:border-box}\n",
    "body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,sans-serif}\n",
    "main,header,footer{max-width:1220px;margin:0 auto;padding:0 20px}\n",
    "header{padding-top:28px}\nheader p{clear:right}\n",
    "h1{font-size:1.7rem;line-height:1.2;margin:0 0 4px;",
    "overflow-wrap:anywhere}\nh2{font-size:1.25rem;margin:44px 0 4px}\n",
    "p{margin:4px 0 12px;max-width:72ch}\n.soft,footer,caption,figcaption{color:var(--soft)}\n",
    "button.theme{float:right;font:inherit;font-size:.9rem;color:var(--soft);background:none;",
    "border:1px solid var(--rule);border-radius:8px;padding:4px 12px;cursor:pointer}\n",
    ".tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(140px,1fr));gap:12px;",
    "margin:18px 0}\n.tile,.card,.chart{background:var(--card);border:1px solid var(--rule);",
    "border-radius:10px}\n.tile{padding:10px 14px}\n",
    ".tile b{display:block;font-size:1.35rem;font-variant-numeric:tabular-nums}\n",
    ".tile span{color:var(--soft);font-size:.85rem}\n",
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,330px),1fr));",
    "gap:14px;margin:14px 0}\n.chart{margin:0;padding:12px 12px 6px;max-width:560px}\n",
    ".chart svg{display:block;width:100%;height:auto}\n",
    "figcaption{font-weight:600;color:var(--ink);margin-bottom:6px}\n",
    "svg text{font:11px system-ui,sans-serif;fill:var(--soft)}\n",
    "svg .label,svg .value{fill:var(--ink)}\n",
    ".grid{stroke:var(--rule);stroke-width:1;fill:none}\n.axis{stroke:var(--soft);fill:none}\n",
    ".level{stroke:var(--level);stroke-dasharray:3 4;fill:none}\n",
    ".line{fill:none;stroke-width:2;stroke-linejoin:round}\n.dashed{stroke-dasharray:6 4}\n",
    ".line.s0{stroke:var(--c0)}.line.s1{stroke:var(--c1)}.line.s2{stroke:var(--c2)}",
    ".line.s3{stroke:var(--c3)}.line.s4{stroke:var(--c4)}.line.s5{stroke:var(--c5)}",
    ".line.s6{stroke:var(--c6)}.line.s7{stroke:var(--c7)}\n",
    ".mark.s0,.bar.s0{fill:var(--c0)}.mark.s1{fill:var(--c1)}.mark.s2{fill:var(--c2)}",
    ".mark.s3{fill:var(--c3)}.mark.s4{fill:var(--c4)}.mark.s5{fill:var(--c5)}",
    ".mark.s6{fill:var(--c6)}.mark.s7{fill:var(--c7)}\n.bar.dead{fill:var(--c1)}\n",
    ".mark.hollow{fill:var(--card);stroke:currentColor}\n",
    ".point:hover .mark{stroke:var(--ink);stroke-width:2}\n.point:hover .bar{opacity:.7}\n",
    ".legend{display:flex;flex-wrap:wrap;gap:4px 20px;margin:8px 0;padding:0;list-style:none;",
    "font-size:.92rem}\n.legend li{overflow-wrap:anywhere}\n",
    "svg.key{width:30px;height:14px;vertical-align:-2px;margin-right:6px}\n",
    ".scroll{overflow-x:auto;margin:12px 0}\n",
    "table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums;",
    "background:var(--card);border:1px solid var(--rule)}\n",
    "caption{text-align:left;padding:4px 0;font-size:.9rem}\n",
    "th,td{padding:5px 10px;text-align:right;border-bottom:1px solid var(--rule);",
    "white-space:nowrap}\nth{font-weight:600}\nth button{all:unset;cursor:pointer}\n",
    "th button:focus-visible{outline:2px solid var(--accent)}\n",
    "th[aria-sort=ascending] button::after{content:' \\2191'}\n",
    "th[aria-sort=descending] button::after{content:' \\2193'}\n",
    ".text{text-align:left;max-width:22em;overflow:hidden;text-overflow:ellipsis}\n",
    ".cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,270px),1fr));",
    "gap:12px;margin:14px 0}\n.card{padding:12px 14px;min-width:0}\n",
    ".card h3{margin:0;font-size:1.05rem;overflow-wrap:anywhere}\n",
    ".card .soft{font-size:.85rem;margin:0 0 6px}\n",
    ".card ol{margin:6px 0;padding:0;list-style:none;font-size:.9rem}\n",
    ".card li{display:flex;justify-content:space-between;gap:10px}\n",
    ".card li span:first-child{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}\n",
    ".card li span:last-child{color:var(--soft);font-variant-numeric:tabular-nums}\n",
    ".card .near{font-size:.85rem;overflow-wrap:anywhere}\n",
    "svg.spark{display:block;width:100%;height:36px}\n",
    "footer{padding:40px 20px 30px;font-size:.85rem}\n",
    "@media(max-width:520px){main,header,footer{padding-left:12px;padding-right:12px}",
    "h1{font-size:1.35rem}}\n",
    "@media print{button.theme{display:none}.card,.chart,.tile{break-inside:avoid}}\n",
};

/* Sorting and the theme's button; the page is whole without them. */
static const char *const script[] = {
    "document.querySelectorAll('table.sort th').forEach(function(th){\n",
    "var b=document.createElement('button');b.textContent=th.textContent;th.textContent='';\n",
    "th.appendChild(b);b.addEventListener('click',function(){\n",
    "var table=th.closest('table'),body=table.tBodies[0],i=th.cellIndex;\n",
    "var up=th.getAttribute('aria-sort')==='descending';\n",
    "table.querySelectorAll('th').forEach(function(o){o.removeAttribute('aria-sort')});\n",
    "th.setAttribute('aria-sort',up?'ascending':'descending');\n",
    "function key(r){var c=r.cells[i],k=c.getAttribute('data-key');\n",
    "return k===null?c.textContent:k===''?NaN:Number(k)}\n",
    "Array.from(body.rows).sort(function(p,q){var a=key(p),b=key(q);\n",
    "if(typeof a==='string')return up?a.localeCompare(b):b.localeCompare(a);\n",
    "if(isNaN(a)||isNaN(b))return isNaN(a)-isNaN(b);return up?a-b:b-a})\n",
    ".forEach(function(r){body.appendChild(r)})})});\n",
    "var theme=document.querySelector('button.theme');theme.hidden=false;\n",
    "theme.addEventListener('click',function(){var e=document.documentElement;\n",
    "var dark=e.dataset.theme?e.dataset.theme==='dark':\n",
    "matchMedia('(prefers-color-scheme:dark)').matches;\n",
    "e.dataset.theme=dark?'light':'dark'});\n",
};

static void put_all(FILE *page, const char *const *parts, size_t count) {
    for (size_t i = 0; i < count; i++) fputs(parts[i], page);
}

void page_begin(FILE *page, const char *title) {
    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
          "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
          "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
          "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n<title>",
          page);
    page_text(page, title);
    fputs("</title>\n<style>\n", page);
    put_all(page, style, TOOL_COUNT_OF(style));
    fputs("</style>\n</head>\n<body>\n", page);
}

void page_end(FILE *page) {
    fputs("<script>\n", page);
    put_all(page, script, TOOL_COUNT_OF(script));
    fputs("</script>\n</body>\n</html>\n", page);
}

/* ---------------------------------------------------------------------------------------------
   Text and numbers
   ------------------------------------------------------------------------------------------ */

static void put_text(FILE *page, const char *text, size_t bytes) {
    const char *end = text + bytes;
    while (text < end) {
        const unsigned char c = (unsigned char)*text;
        const size_t length = bytes_utf8((const unsigned char *)text, (size_t)(end - text));
        if (length == 0 || (c < 32 && c != '\t') || c == 127) {
            fputs("\357\277\275", page); /* the replacement character */
        } else if (c == '<' || c == '>' || c == '&' || c == '"' || c == '\'') {
            fprintf(page, "&#%d;", c);
        } else {
            fwrite(text, 1, length, page);
        }
        text += length > 0 ? length : 1;
    }
}

void page_text(FILE *page, const char *text) {
    put_text(page, text, strlen(text));
}

void page_label(FILE *page, const char *text) {
    const size_t bytes = strlen(text), shown = tool_shorten(text, bytes, 80);
    fputs("<bdi>", page);
    put_text(page, text, shown);
    if (shown < bytes) fputs("\342\200\246", page); /* an ellipsis */
    fputs("</bdi>", page);
}

const char *page_file_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

void page_real(FILE *page, double value, int decimals) {
    if (isfinite(value)) {
        fprintf(page, "%.*f", decimals, value);
    } else {
        fputs("-", page);
    }
}

void page_share(FILE *page, double share) {
    const double percent = 100 * share;
    const int decimals = percent <= 0 ? 0 : percent < 0.1 ? 3 : percent < 10 ? 2 : 1;
    fprintf(page, "%.*f%%", decimals, percent);
}

/* ---------------------------------------------------------------------------------------------
   Tables
   ------------------------------------------------------------------------------------------ */

void page_table_begin(FILE *page, const char *caption, const char *const *heads, size_t count,
                      size_t text_column) {
    fprintf(page, "<div class=\"scroll\"><table class=\"sort\"><caption>%s</caption><thead><tr>",
            caption);
    for (size_t i = 0; i < count; i++) {
        fprintf(page, "<th scope=\"col\"%s>%s</th>", i == text_column ? " class=\"text\"" : "",
                heads[i]);
    }
    fputs("</tr></thead><tbody>\n", page);
}

static void begin_cell(FILE *page, double key) {
    if (isfinite(key)) {
        fprintf(page, "<td data-key=\"%.9g\">", key);
    } else {
        fputs("<td data-key=\"\">", page);
    }
}

void page_cell(FILE *page, double value, int decimals) {
    begin_cell(page, value);
    page_real(page, value, decimals);
    fputs("</td>", page);
}

void page_cell_share(FILE *page, double share) {
    begin_cell(page, share);
    page_share(page, share);
    fputs("</td>", page);
}

void page_cell_text(FILE *page, const char *text) {
    fputs("<td class=\"text\">", page);
    page_label(page, text);
    fputs("</td>", page);
}

void page_table_end(FILE *page) {
    fputs("</tbody></table></div>\n", page);
}
