//! The page of an experiment: charts and a table, in one file that needs nothing else.

use crate::show::chart::{Chart, colour};
use crate::show::table::Table;

/// The page.
///
/// # Errors
/// If a chart cannot be drawn.
pub fn html(title: &str, lead: &str, charts: &[Chart], table: &Table) -> Result<String, String> {
    let figures: Result<Vec<String>, String> = charts.iter().map(figure).collect();
    let rows: Vec<String> = table.rows().iter().enumerate().map(|(nth, row)| table_row(nth, row)).collect();
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<main>\n<h1>{title}</h1>\n<p>{lead}</p>\n{figures}\n<div class=\"wide\"><table>{rows}</table></div>\n\
         </main>\n</body>\n</html>\n",
        title = escaped(title),
        lead = escaped(lead),
        figures = figures?.concat(),
        rows = rows.concat(),
    ))
}

fn figure(chart: &Chart) -> Result<String, String> {
    let legend = |(nth, name): (usize, &str)| {
        format!("<span><i style=\"background:{}\"></i>{}</span> ", colour(nth), escaped(name))
    };
    let legends: String =
        chart.curves.iter().map(|curve| curve.name.as_str()).enumerate().map(legend).collect();
    let (title, svg) = (escaped(&chart.title), chart.svg()?);
    Ok(format!(
        "<h2>{title}</h2>\n<figure><div class=\"wide\">{svg}</div><figcaption>{legends}</figcaption></figure>\n"
    ))
}

fn table_row(nth: usize, cells: &[String]) -> String {
    let tag = if nth == 0 { "th" } else { "td" };
    let cells: String = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell))).collect();
    format!("<tr>{cells}</tr>\n")
}

/// `text` with what HTML would take for its own.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const STYLE: &str = ":root{color-scheme:light dark}body{margin:0;font:16px/1.5 system-ui,sans-serif}\
    main{max-width:66rem;margin:0 auto;padding:2rem 1.25rem 4rem}h1{font-size:1.6rem}h2{font-size:1.1rem;margin:2rem 0 .3rem}\
    figure{margin:0}svg{display:block;width:100%;min-width:40rem;height:auto}figcaption{display:flex;flex-wrap:wrap;gap:.3rem 1.4rem}\
    i{display:inline-block;width:1em;height:.35em;margin-right:.5em;vertical-align:.2em}.wide{overflow-x:auto}\
    table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin-top:1.5rem}\
    th,td{padding:.3rem .8rem;text-align:right;border-bottom:1px solid #8888;white-space:nowrap}\
    th:first-child,td:first-child{text-align:left;padding-left:0}";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::chart::Curve;

    #[test]
    fn the_page_has_all_parts_and_asks_for_nothing() {
        let mut table = Table::new(["setting", "<MiB>"]);
        table.row(["off", "12"]);
        let curve = Curve { name: "a & b".to_owned(), points: vec![(0.0, 1.0), (1.0, 2.0)] };
        let chart = Chart { title: "RSS".to_owned(), curves: vec![curve] };
        let page = html("Bursts", "What stays.", &[chart], &table).expect("drawn");
        for part in ["<h1>Bursts</h1>", "<svg", "a &amp; b", "<th>&lt;MiB&gt;</th>", "<td>12</td>"] {
            assert!(page.contains(part), "{part}");
        }
        for outside in ["src=", "href=", "url(", "<script"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
