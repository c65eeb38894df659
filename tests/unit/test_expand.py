"""`expand` over a real store: what a record refers to, as its reader may see it, and nothing else."""

from typing import Any

import pytest

from snackbase.errors import BadRequest, TooLarge
from snackbase.model import Field, FieldType, Rules
from snackbase.services.listing import ListRequest
from tests.support.world import BOB, TITLE, World, rules


def reference(name: str, to: str) -> Field:
    return Field(name=name, type=FieldType.REFERENCE, collection=to)


async def authors(world: World, *, of_authors: Rules | None = None, **more: Any) -> dict[str, Any]:
    """Companies, authors in them, posts by these; one record each, and a post by nobody."""
    await world.collection("companies", TITLE)
    await world.collection(
        "authors", TITLE, reference("company", "companies"), Field(name="salary"), rules=of_authors or rules(), **more
    )
    await world.collection("posts", TITLE, reference("author", "authors"), reference("editor", "authors"))
    user = world.user()
    company = (await world.records.create(user, "companies", {"title": "acme"})).records[0]
    ann = {"title": "ann", "company": company["id"], "salary": "much"}
    author = (await world.records.create(world.root(), "authors", ann)).records[0]
    post = (await world.records.create(user, "posts", {"title": "p", "author": author["id"]})).records[0]
    await world.records.create(user, "posts", {"title": "q"})
    return {"company": company, "author": author, "post": post}


async def test_a_reference_is_followed_in_lists_and_single_reads(world: World) -> None:
    made = await authors(world)
    one = await world.records.get(world.user(), "posts", made["post"]["id"], expand="author")
    assert one == {**made["post"], "expand": {"author": made["author"]}}
    listing = await world.records.list(world.user(), "posts", ListRequest(expand="author,editor", sort="title"))
    assert [item["expand"] for item in listing.items] == [{"author": made["author"]}, {}]
    assert "expand" not in await world.records.get(world.user(), "posts", made["post"]["id"])


async def test_a_reference_of_a_reference_is_followed_with_a_dot(world: World) -> None:
    made = await authors(world)
    one = await world.records.get(world.user(), "posts", made["post"]["id"], expand="author, author.company")
    assert one["expand"]["author"] == {**made["author"], "expand": {"company": made["company"]}}


async def test_fields_do_not_keep_a_reference_from_being_followed(world: World) -> None:
    made = await authors(world)
    one = await world.records.get(world.user(), "posts", made["post"]["id"], fields="title", expand="author")
    assert one == {"id": made["post"]["id"], "title": "p", "expand": {"author": made["author"]}}


async def test_what_the_view_rule_of_the_target_hides_is_left_out(world: World) -> None:
    made = await authors(world, of_authors=rules(view_rule="@owns_record()"))
    for asker, seen in ((world.user(BOB), False), (world.root(), True)):
        one = await world.records.get(asker, "posts", made["post"]["id"], expand="author")
        assert ("author" in one["expand"]) is seen


async def test_a_locked_target_is_left_out_and_a_guest_sees_only_what_is_public(world: World) -> None:
    await authors(world, of_authors=rules(view_rule=None))
    listing = await world.records.list(world.user(), "posts", ListRequest(expand="author"))
    assert [item["expand"] for item in listing.items] == [{}, {}]


async def test_expanded_records_show_their_view_fields_only(world: World) -> None:
    made = await authors(world, view_fields=("title",))
    one = await world.records.get(world.user(), "posts", made["post"]["id"], expand="author")
    assert one["expand"]["author"] == {"id": made["author"]["id"], "title": "ann"}
    with pytest.raises(BadRequest) as caught:
        await world.records.get(world.user(), "posts", made["post"]["id"], expand="author.company")
    assert caught.value.code == "invalid_expand"
    assert "acme" not in caught.value.message


async def test_a_hundred_references_cost_one_query(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await authors(world)
    user = world.user()
    made = [{"title": str(number)} for number in range(98)]
    ids = [one["id"] for one in (await world.records.create_many(user, "authors", made)).records]
    await world.records.create_many(user, "posts", [{"title": one, "author": one} for one in ids])
    queries, real = [], world.store.list

    async def counting(query: Any) -> Any:
        queries.append(query)
        return await real(query)

    monkeypatch.setattr(world.store, "list", counting)
    listing = await world.records.list(user, "posts", ListRequest(expand="author", limit=100))
    assert sum("author" in item["expand"] for item in listing.items) == 99
    assert len(queries) == 2


async def test_events_carry_no_expansion(world: World) -> None:
    made = await authors(world)
    await world.records.get(world.user(), "posts", made["post"]["id"], expand="author")
    assert all("expand" not in change.data for change in await world.log())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nobody", "is not a field"),
        ("title", "refers to nothing"),
        ("autor", "Did you mean 'author'"),
        ("author.company.owner", "at most 2 deep"),
        ("author.", "is not a field"),
        (".", "is not a field"),
        ("author,*", "is not a field"),
        (",".join(f"a{number}" for number in range(11)), "at most 10 paths"),
        ("author.title", "refers to nothing"),
    ],
)
async def test_an_expand_that_cannot_be_is_refused(world: World, text: str, says: str) -> None:
    made = await authors(world)
    with pytest.raises(BadRequest) as caught:
        await world.records.get(world.user(), "posts", made["post"]["id"], expand=text)
    assert (caught.value.code, caught.value.details[0].field) == ("invalid_expand", "expand")
    assert says in caught.value.message


async def test_a_hidden_reference_is_refused_like_one_that_is_not_there(world: World) -> None:
    await world.collection("authors", TITLE)
    await world.collection("posts", TITLE, reference("author", "authors"), list_fields=("title",))
    with pytest.raises(BadRequest, match="is not a field"):
        await world.records.list(world.user(), "posts", ListRequest(expand="author"))
    await world.records.list(world.root(), "posts", ListRequest(expand="author"))


async def test_a_large_record_that_many_refer_to_does_not_make_a_small_list_huge(world: World) -> None:
    text = Field(name="text")
    await world.collection("authors", TITLE, text)
    await world.collection("posts", TITLE, reference("author", "authors"), reference("editor", "authors"))
    user = world.user()
    long = (await world.records.create(user, "authors", {"title": "ann", "text": "x" * 200_000})).records[0]
    by_ann = {"title": "p", "author": long["id"], "editor": long["id"]}
    for _ in range(2):
        await world.records.create_many(user, "posts", [by_ann] * 25)

    with pytest.raises(TooLarge) as refused:
        await world.records.list(user, "posts", ListRequest(expand="author,editor", limit=50))
    assert refused.value.code == "page_too_large"
    with pytest.raises(TooLarge):
        await world.records.list(user, "posts", ListRequest(expand="editor,author", limit=45))
    assert len((await world.records.list(user, "posts", ListRequest(expand="author", limit=50))).items) == 50
    assert len((await world.records.list(user, "posts", ListRequest(expand="author,editor", limit=30))).items) == 30
