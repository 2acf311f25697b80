//! A small EPUB file.

use std::path::{Path, PathBuf};

use concert_tests::binaries;
use tokio::process::Command;

pub(crate) const TITLE: &str = "The Harbour Lamp";
pub(crate) const CHAPTERS: [&str; 3] = ["The Harbour", "The Lamp", "The Return"];

const CONTAINER: &str = r#"<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>
<rootfile full-path="book/package.opf" media-type="application/oebps-package+xml"/></rootfiles></container>"#;
const STYLE: &str = "h1 { text-align: center } .box { background: url(lamp.svg) }";
const PICTURE: &str = r##"<svg xmlns="http://www.w3.org/2000/svg" width="120" height="60"><rect width="120" height="60" fill="#c60"/></svg>"##;

/// Makes a book with three chapters, a style sheet and a picture. Each chapter tries to run
/// scripts.
pub(crate) async fn make(dir: &Path) -> anyhow::Result<PathBuf> {
    let add = |path: &str, text: &str| -> anyhow::Result<()> {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(dir))?;
        Ok(std::fs::write(path, text)?)
    };
    add("mimetype", "application/epub+zip")?;
    add("META-INF/container.xml", CONTAINER)?;
    add("book/style.css", STYLE)?;
    add("book/lamp.svg", PICTURE)?;
    let (mut items, mut spine, mut toc) = (String::new(), String::new(), String::new());
    for (at, title) in CHAPTERS.iter().enumerate() {
        let file = format!("{at}.xhtml");
        items += &format!(r#"<item id="c{at}" href="{file}" media-type="application/xhtml+xml"/>"#);
        spine += &format!(r#"<itemref idref="c{at}"/>"#);
        toc += &format!(r#"<li><a href="{file}">{title}</a></li>"#);
        add(&format!("book/{file}"), &chapter(title))?;
    }
    let toc = format!(
        r#"<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"><body>
        <nav epub:type="toc"><ol>{toc}</ol></nav></body></html>"#
    );
    add("book/toc.xhtml", &toc)?;
    let package = format!(
        r#"<package xmlns="http://www.idpf.org/2007/opf" version="3.0">
        <metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{TITLE}</dc:title><dc:creator>Ada Marsh</dc:creator></metadata>
        <manifest><item id="toc" properties="nav" href="toc.xhtml" media-type="application/xhtml+xml"/>
        <item id="style" href="style.css" media-type="text/css"/>
        <item id="lamp" href="lamp.svg" media-type="image/svg+xml"/>{items}</manifest>
        <spine>{spine}</spine></package>"#
    );
    add("book/package.opf", &package)?;
    let mut zip = Command::new("python3");
    zip.args(["-m", "zipfile", "-c", "lamp.epub", "mimetype", "META-INF", "book"]);
    binaries::finished(zip.current_dir(dir)).await?;
    Ok(dir.join("lamp.epub"))
}

fn chapter(title: &str) -> String {
    let paragraphs: String = (1..=20)
        .map(|number| {
            format!(
                "<p id=\"p{number}\">Paragraph {number}. The rain had settled over the harbour, and \
                 the boats lay so still that their masts seemed drawn with a pen.</p>"
            )
        })
        .collect();
    format!(
        r#"<html xmlns="http://www.w3.org/1999/xhtml" lang="en"><head><title>{title}</title>
        <link rel="stylesheet" href="style.css"/></head><body><h1>{title}</h1>
        <script>parent.hacked = 1</script>
        <img src="lamp.svg" alt="A lamp" onload="parent.hacked = 1"/>
        <p style="font-weight: bold" onclick="parent.hacked = 1">Bold</p><div class="box"> </div>
        {paragraphs}</body></html>"#
    )
}
