//! The report: one page that needs nothing else, neither network nor files. Light and dark as the reader's system is.

use super::chart;
use super::phases::Outcome;
use super::{summary, table};
use crate::command::Failure;
use crate::command::output::mib;
use ebbtide::{BlockReason, Blocked};
use plotters::style::RGBColor;

/// The page.
///
/// # Errors
/// [`Failure::Chart`] when the chart cannot be drawn.
pub(crate) fn page(outcome: &Outcome) -> Result<String, Failure> {
    let heads: String =
        table::HEADS.iter().map(|head| format!("<th scope=\"col\">{}</th>", escaped(head))).collect();
    let rows: String = outcome.phases.iter().map(|phase| table_row(&table::row(phase))).collect();
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>ebbtide demo</title>\n\
         <style>{style}</style>\n</head>\n<body>\n<main>\n<h1>Logical shrink, physical release</h1>\n\
         <p class=\"lead\">{sentence}</p>\n<figure>\n<div class=\"wide\">{svg}</div>\n<figcaption>{legend}</figcaption>\n</figure>\n\
         <h2>Phases</h2>\n<div class=\"wide\"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>\n\
         <p class=\"note\">{note}</p>\n<h2>The release</h2>\n<p>{release}</p>\n{blocked}\n<p>{bound}</p>\n\
         <h2>The run</h2>\n<p>{setting}</p>\n</main>\n</body>\n</html>\n",
        style = style(),
        sentence = escaped(&summary::sentence(outcome)).replace("-&gt;", "\u{2192}"),
        svg = chart::svg(outcome)?,
        legend = legend(),
        note = escaped(table::NOTE),
        release = escaped(&outcome.release.to_string()),
        blocked = blocked(&outcome.release.blocked),
        bound = escaped(&summary::bound(outcome)),
        setting = escaped(&summary::setting(outcome)),
    ))
}

fn table_row(cells: &[String]) -> String {
    let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escaped(cell))).collect();
    format!("<tr>{cells}</tr>")
}

/// The colours of the chart with what they stand for.
fn legend() -> String {
    let entry = |class: &str, text: &str| format!("<span><i class=\"{class}\"></i>{text}</span>");
    [
        entry("rss", "RSS of the process"),
        entry("in-use", "in use: pages of live objects"),
        entry("free", "free: idle, resident"),
        entry("released", "released: idle, not resident"),
    ]
    .concat()
}

/// Why bytes stayed, as a table.
fn blocked(blocked: &[Blocked]) -> String {
    if blocked.is_empty() {
        return "<p>Nothing was in its way.</p>".to_owned();
    }
    let row = |row: &Blocked| {
        table_row(&[reason(row.reason), format!("{:.2}", mib(row.bytes)), row.spans.to_string()])
    };
    let rows: String = blocked.iter().map(row).collect();
    format!(
        "<table><thead><tr><th scope=\"col\">what stayed, and why</th><th scope=\"col\">MiB</th>\
         <th scope=\"col\">places</th></tr></thead><tbody>{rows}</tbody></table>"
    )
}

fn reason(reason: BlockReason) -> String {
    match reason {
        BlockReason::LiveObjects => "free bytes on pages that also hold live objects".to_owned(),
        BlockReason::ThreadCache => "free objects in the caches of other threads".to_owned(),
        BlockReason::Locked => "pages locked in memory".to_owned(),
        BlockReason::Busy => "pages that another thread took meanwhile".to_owned(),
        BlockReason::Refused(errno) => {
            format!("the kernel refused: {}", std::io::Error::from_raw_os_error(errno))
        }
        _ => "another reason".to_owned(),
    }
}

/// `text` with what HTML would take for its own.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The style sheet. It finds the parts of the chart by their colours, which each have one meaning.
fn style() -> String {
    let parts = [
        (chart::IN_USE, "--in-use"),
        (chart::FREE, "--free"),
        (chart::RELEASED, "--released"),
        (chart::RSS, "--rss"),
        (chart::INK, "--ink"),
        (chart::GRID, "--grid"),
    ];
    let light: String = parts.iter().map(|(colour, name)| format!("{name}:{};", hex(*colour))).collect();
    let select: String = parts
        .iter()
        .map(|(colour, name)| {
            let hex = hex(*colour);
            format!("svg [fill=\"{hex}\"]{{fill:var({name})}}svg [stroke=\"{hex}\"]{{stroke:var({name})}}")
        })
        .collect();
    format!(":root{{color-scheme:light dark;--page:#ffffff;--faint:#5b6570;{light}}}{DARK}{RULES}{select}")
}

/// As plotters writes it.
fn hex(colour: RGBColor) -> String {
    format!("#{:02X}{:02X}{:02X}", colour.0, colour.1, colour.2)
}

const DARK: &str = "@media (prefers-color-scheme:dark){:root{--page:#14181d;--faint:#98a3af;--in-use:#5aa2e6;\
    --free:#d9902a;--released:#37424d;--rss:#ff7b93;--ink:#e4e8ec;--grid:#46515c}}";

const RULES: &str = "body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 system-ui,sans-serif}\
    main{max-width:66rem;margin:0 auto;padding:2rem 1.25rem 4rem}h1{font-size:1.7rem;margin:0 0 .5rem}\
    h2{font-size:1.15rem;margin:2.2rem 0 .6rem}.lead{font-size:1.15rem;margin:0 0 1.25rem;max-width:52rem}\
    figure{margin:0}svg{display:block;width:100%;min-width:44rem;height:auto}\
    figcaption{display:flex;flex-wrap:wrap;gap:.4rem 1.6rem;font-size:.92rem;padding:.4rem 0 0}\
    figcaption i{display:inline-block;width:1em;height:1em;margin-right:.5em;vertical-align:-.12em;border-radius:2px}\
    i.rss{background:var(--rss);height:3px;vertical-align:.25em}i.in-use{background:var(--in-use)}\
    i.free{background:var(--free)}i.released{background:var(--released);outline:1px solid var(--grid)}\
    .wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.95rem}\
    th,td{padding:.35rem .8rem;text-align:right;border-bottom:1px solid var(--grid);white-space:nowrap}\
    th:first-child,td:first-child{text-align:left;padding-left:0}th{font-weight:600}\
    .note{color:var(--faint);font-size:.9rem}p{white-space:pre-line}";

#[cfg(test)]
mod tests {
    use super::super::phases;
    use super::super::source::Source;
    use super::*;

    #[test]
    fn the_page_has_all_parts_and_asks_for_nothing() {
        let outcome = phases::run(&Source::Synthetic(500), 5);
        let page = page(&outcome).expect("drawn");
        for phase in &outcome.phases {
            assert!(page.contains(&format!("<td>{}</td>", phase.name.as_str())), "{:?}", phase.name);
        }
        assert!(page.contains("<svg") && page.contains("The logical shrink changed RSS by "));
        for outside in ["src=", "href=", "url(", "@import", "<script"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn every_colour_of_the_chart_is_one_that_the_style_sheet_knows() {
        let svg = chart::svg(&phases::run(&Source::Synthetic(500), 5)).expect("drawn");
        let style = style();
        let colours: Vec<&str> = svg.match_indices("\"#").filter_map(|(at, _)| svg.get(at..at + 9)).collect();
        assert!(colours.len() > 6, "{colours:?}");
        for colour in colours {
            assert!(style.contains(colour), "{colour}");
        }
    }

    #[test]
    fn reasons_are_listed_and_text_is_escaped() {
        let mut list = ebbtide::BlockedList::new();
        assert!(blocked(&list).contains("Nothing"));
        list.add(BlockReason::LiveObjects, 3 << 20, 12);
        assert!(blocked(&list).contains("<td>3.00</td><td>12</td>"));
        assert_eq!(escaped("<a&\"b\">"), "&lt;a&amp;&quot;b&quot;&gt;");
    }
}
