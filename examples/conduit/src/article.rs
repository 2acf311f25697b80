//! The concept Article: texts under a slug.

use concert_worker::store::{
    Change, Changed, DateTime, Deleted, Documents, Found, Inserted, Page, Target, now,
};
use concert_worker::{
    Call, NoSettings, One, Query, Start, StartError, Stop, Worker, concept, refused, retry,
};
use serde::{Deserialize, Serialize};

use crate::times::rfc3339;

/// The worker of Article.
pub(crate) fn worker() -> Worker {
    concept(include_str!("../concepts/Article.concept"))
        .open(Articles::open)
        .action("create", Articles::create)
        .action("update", Articles::update)
        .action("delete", Articles::delete)
        .query("_getBySlug", Articles::get_by_slug)
        .query("_get", Articles::get)
        .query("_getCount", Articles::get_count)
        .query("_getPage", Articles::get_page)
        .build()
}

/// Number of articles in a page without a limit.
const PAGE: f64 = 20.0;
/// Maximum number of articles in a page.
const PAGE_MAX: f64 = 100.0;
/// Maximum number of articles that a page skips.
const OFFSET_MAX: f64 = 1e9;
/// Maximum length of a slug without its suffix, in characters.
const SLUG_CHARS_MAX: usize = 100;
/// `GET /articles/feed` is another path.
const RESERVED_SLUG: &str = "feed";

#[derive(Serialize, Deserialize)]
struct Article {
    slug: String,
    title: String,
    description: String,
    body: String,
    author: String,
    updated_at: DateTime,
}

#[derive(Deserialize)]
struct Create {
    author: String,
    title: String,
    description: String,
    body: String,
}

#[derive(Deserialize)]
struct Update {
    article: String,
    title: Option<String>,
    description: Option<String>,
    body: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct OfArticle {
    article: String,
}

#[derive(Deserialize)]
struct Slug {
    slug: String,
}

/// Articles of these authors that are in each of these lists; null does not restrict.
#[derive(Deserialize)]
struct Selection {
    authors: Option<Vec<String>>,
    within: Option<Vec<Option<Vec<String>>>>,
}

#[derive(Deserialize)]
struct PageOf {
    #[serde(flatten)]
    selection: Selection,
    limit: Option<f64>,
    offset: Option<f64>,
}

#[derive(Serialize)]
struct Authored {
    article: String,
    author: String,
}

#[derive(Serialize)]
struct Count {
    count: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    slug: String,
    title: String,
    description: String,
    author: String,
    created_at: String,
    updated_at: String,
}

#[derive(Serialize)]
struct Whole {
    #[serde(flatten)]
    head: Head,
    body: String,
}

#[derive(Serialize)]
struct Row {
    article: String,
    #[serde(flatten)]
    head: Head,
}

struct Articles {
    articles: Documents<Article>,
}

impl Articles {
    async fn open(start: Start<NoSettings>) -> Result<Self, StartError> {
        let articles = start.documents("articles").unique("slug").newest_first();
        Ok(Self { articles: articles.lookup_newest("author").open().await? })
    }

    async fn create(&self, call: Call<Create>) -> Result<OfArticle, Stop> {
        let (Create { author, title, description, body }, call) = call.split();
        let article = call.new_id("article");
        let [slug, other] = slugs(&title, &article);
        let updated_at = now();
        let mut value = Article { slug, title, description, body, author, updated_at };
        for slug in [value.slug.clone(), other] {
            value.slug = slug;
            match self.articles.insert(call.permit().await?, &article, &value).await? {
                Inserted::Done => return Ok(OfArticle { article }),
                Inserted::Taken(_) => {}
            }
        }
        Err(retry("no slug is free"))
    }

    async fn update(&self, call: Call<Update>) -> Result<(), Stop> {
        let (Update { article, title, description, body }, call) = call.split();
        let before = match self.articles.target(&call, &article).await? {
            Target::Done => return Ok(()),
            Target::Live(found) => found.value,
            Target::NotThere => return Err(missing()),
        };
        let mut change = Change::set("updated_at", now());
        for (field, value) in [("title", &title), ("description", &description), ("body", &body)] {
            if let Some(value) = value {
                change = change.and_set(field, value);
            }
        }
        let [slug, other] = match title.filter(|title| *title != before.title) {
            Some(title) => slugs(&title, &article),
            None => [before.slug.clone(), before.slug],
        };
        for slug in [slug, other] {
            let change = change.clone().and_set("slug", slug);
            match self.articles.update(call.permit().await?, &article, change).await? {
                Changed::Done => return Ok(()),
                Changed::NotThere => return Err(missing()),
                Changed::Taken(_) => {}
            }
        }
        Err(retry("no slug is free"))
    }

    async fn delete(&self, call: Call<OfArticle>) -> Result<(), Stop> {
        match self.articles.delete(call.permit().await?, &call.input.article).await? {
            Deleted::Done => Ok(()),
            Deleted::NotThere => Err(missing()),
        }
    }

    async fn get_by_slug(&self, query: Query<Slug>) -> Result<Option<Authored>, Stop> {
        let found = self.articles.find("slug", &query.input.slug).await?;
        Ok(found.map(|found| Authored { article: found.id, author: found.value.author }))
    }

    async fn get(&self, query: Query<OfArticle>) -> Result<Option<Whole>, Stop> {
        let found = self.articles.get(&query.input.article).await?;
        Ok(found.map(|mut found| {
            let body = std::mem::take(&mut found.value.body);
            Whole { head: Head::of(found), body }
        }))
    }

    async fn get_count(&self, query: Query<Selection>) -> Result<One<Count>, Stop> {
        let count = self.articles.count(&query.input.page()).await?;
        Ok(One(Count { count }))
    }

    async fn get_page(&self, query: Query<PageOf>) -> Result<Vec<Row>, Stop> {
        let PageOf { selection, limit, offset } = query.input;
        let limit = limit.unwrap_or(PAGE).clamp(1.0, PAGE_MAX) as usize;
        let offset = offset.unwrap_or(0.0).clamp(0.0, OFFSET_MAX) as usize;
        let page = selection.page().newest_first().skip(offset).limit(limit);
        let found = self.articles.page(page).await?;
        let row = |found: Found<Article>| Row { article: found.id.clone(), head: Head::of(found) };
        Ok(found.into_iter().map(row).collect())
    }
}

impl Selection {
    fn page(&self) -> Page {
        let mut page = Page::all();
        if let Some(authors) = &self.authors {
            page = page.one_of("author", authors);
        }
        for list in self.within.iter().flatten().flatten() {
            page = page.one_of("_id", list);
        }
        page
    }
}

impl Head {
    fn of(found: Found<Article>) -> Self {
        let created_at = rfc3339(found.created_at);
        let Article { slug, title, description, author, updated_at, .. } = found.value;
        Self { slug, title, description, author, created_at, updated_at: rfc3339(updated_at) }
    }
}

/// The slug of a title, and the one to use if it is taken.
fn slugs(title: &str, article: &str) -> [String; 2] {
    let words = title.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let slug: String = words.collect::<Vec<_>>().join("-").to_lowercase();
    let slug: String = slug.chars().take(SLUG_CHARS_MAX).collect();
    // Ids are unique, and so are texts that end with one.
    let other = if slug.is_empty() { article.to_owned() } else { format!("{slug}-{article}") };
    let is_usable = !slug.is_empty() && slug != RESERVED_SLUG;
    [if is_usable { slug } else { other.clone() }, other]
}

fn missing() -> Stop {
    refused("article not found")
}

#[cfg(test)]
mod tests;
