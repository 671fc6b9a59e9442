"""Golden images in the console: seen by all staff, uploaded and examined for administrators."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from tests.support.browsing import Visitors
from tests.support.disk_images import made
from tests.support.live_broker import LiveBroker

EXAMINED_MS = 60_000
"""for qemu-img, on a busy machine"""


def state(page: Page) -> Locator:
    return page.locator("#upload #state")


def chosen(page: Page, file: Path) -> None:
    page.get_by_label("File").set_input_files(file)


def sent(page: Page) -> None:
    page.get_by_role("button", name="Upload").click()


def test_an_image_is_uploaded_and_listed_with_its_next_version(
    school: LiveBroker, visitor: Visitors, tmp_path: Path
) -> None:
    one = visitor("admin")
    one.open("/images")
    rows = one.page.locator("#list tbody tr")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("Library")
    file = made(tmp_path / "study room.qcow2")
    for version in ("1", "2"):
        chosen(one.page, file)
        expect(one.page.get_by_label("Name")).to_have_value("study-room")
        expect(one.page.get_by_label("Format")).to_have_value("qcow2")
        sent(one.page)
        expect(state(one.page)).to_contain_text(
            f"study-room@{version} is there", timeout=EXAMINED_MS
        )
        expect(state(one.page)).to_contain_text("SHA-256")
    expect(rows).to_have_count(3)
    expect(rows.filter(has_text="study-room").first).to_contain_text("none")
    images = school.ask(school.services.pools.images())
    assert sorted((one.name, one.version) for one in images) == [
        ("study", 1),
        ("study-room", 1),
        ("study-room", 2),
    ]


def test_a_file_that_the_broker_refuses_says_why_and_nothing_is_listed(
    school: LiveBroker, visitor: Visitors, tmp_path: Path
) -> None:
    one = visitor("admin")
    one.open("/images")
    file = tmp_path / "bad.qcow2"
    file.write_bytes(b"no disk at all" * 100)
    chosen(one.page, file)
    sent(one.page)
    expect(state(one.page)).to_have_attribute("data-tone", "bad", timeout=EXAMINED_MS)
    expect(state(one.page)).to_contain_text("qcow2")
    one.page.get_by_label("Name").fill("../../etc")
    sent(one.page)
    expect(state(one.page)).to_contain_text("name", timeout=EXAMINED_MS)
    one.expected += ["/api/v1/images"]
    assert len(school.ask(school.services.pools.images())) == 1


def test_a_version_that_no_pool_starts_from_is_removed_after_a_question(
    school: LiveBroker, visitor: Visitors, tmp_path: Path
) -> None:
    one = visitor("admin")
    one.open("/images")
    chosen(one.page, made(tmp_path / "spare.qcow2"))
    sent(one.page)
    expect(state(one.page)).to_contain_text("spare@1 is there", timeout=EXAMINED_MS)
    rows = one.page.locator("#list tbody tr")
    expect(rows).to_have_count(2)
    used, spare = rows.filter(has_text="study"), rows.filter(has_text="spare")
    expect(used.get_by_role("button")).to_have_count(0)
    spare.get_by_role("button", name="Remove").click()
    question = one.page.get_by_role("dialog")
    expect(question).to_contain_text("Remove spare, version 1?")
    question.get_by_role("button", name="Cancel").click()
    expect(rows).to_have_count(2)
    spare.get_by_role("button", name="Remove").click()
    question.get_by_role("button", name="Remove").click()
    expect(one.page.locator("#notices")).to_contain_text("spare, version 1, is removed")
    expect(rows).to_have_count(1)
    removed = school.ask(school.store.directory.removed_images())
    assert [(one.name, one.version) for one in removed] == [("spare", 1)]


def test_a_reader_sees_the_images_and_no_way_to_upload(
    school: LiveBroker, visitor: Visitors
) -> None:
    del school
    one = visitor("auditor")
    one.open("/images?text=STUD")
    expect(one.page.locator("#list tbody tr")).to_have_count(1)
    expect(one.page.locator("#list").get_by_role("button")).to_have_count(0)
    expect(one.page.locator("#upload")).to_have_count(0)
    one.open("/images?text=nothing")
    expect(one.page.locator("#list")).to_contain_text("No image fits")
