#!/usr/bin/env python3
"""Writes the roster of a made-up school into this folder: seven CSV files, the same every time.

    python examples/school/generate.py

Jade Harbour International School 翠湾国际学校 has 1,840 pupils in 80 classes, 140 teachers,
34 other staff and 6 operators of its computers. It needs the standard library alone. Nobody in
it exists: names are drawn from lists of common ones, with a fixed seed.
"""

from __future__ import annotations

import csv
import random  # noqa: TID251 - seeded, and no part of the broker
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SEED = 20_260_901
HERE = Path(__file__).resolve().parent

CLASSES_OF_YEAR = dict.fromkeys(range(1, 7), 6) | dict.fromkeys(range(7, 12), 7) | {12: 5, 13: 4}
TREES = (
    ("maple", "Maple", "枫"),
    ("cedar", "Cedar", "松"),
    ("willow", "Willow", "柳"),
    ("birch", "Birch", "桦"),
    ("oak", "Oak", "橡"),
    ("elm", "Elm", "榆"),
    ("ginkgo", "Ginkgo", "杏"),
)
YEARS_CHINESE = ("一", "二", "三", "四", "五", "六", "七", "八", "九", "十", "十一", "十二", "十三")
PUPILS_OF_CLASS = 23


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def pairs(text: str) -> tuple[tuple[str, str], ...]:
    """Characters and how they are spelt in Latin letters."""
    parts = text.split()
    return tuple(zip(parts[::2], parts[1::2], strict=True))


SURNAMES = pairs(
    "王 Wang 李 Li 张 Zhang 刘 Liu 陈 Chen 杨 Yang 黄 Huang 赵 Zhao 吴 Wu 周 Zhou 徐 Xu 孙 Sun "
    "马 Ma 朱 Zhu 胡 Hu 郭 Guo 何 He 林 Lin 高 Gao 罗 Luo 郑 Zheng 梁 Liang 谢 Xie 宋 Song 唐 Tang "
    "许 Xu 韩 Han 邓 Deng 冯 Feng 曹 Cao 彭 Peng 曾 Zeng 萧 Xiao 田 Tian 董 Dong 潘 Pan 袁 Yuan "
    "蔡 Cai 蒋 Jiang 余 Yu 于 Yu 杜 Du 叶 Ye 程 Cheng 魏 Wei 苏 Su 吕 Lv 丁 Ding 任 Ren 卢 Lu "
    "欧阳 Ouyang 司徒 Situ 上官 Shangguan"
)
GIVEN_FIRST = pairs(
    "子 zi 梓 zi 雨 yu 欣 xin 思 si 嘉 jia 浩 hao 俊 jun 诗 shi 晨 chen 宇 yu 佳 jia 雅 ya 明 ming "
    "文 wen 若 ruo 一 yi 天 tian 景 jing 书 shu 海 hai 静 jing 沐 mu 语 yu 星 xing"
)
GIVEN_SECOND = pairs(
    "涵 han 轩 xuan 怡 yi 琪 qi 睿 rui 宁 ning 晨 chen 妍 yan 航 hang 杰 jie 瑶 yao 然 ran 萱 xuan "
    "辰 chen 琳 lin 博 bo 悦 yue 峰 feng 婷 ting 洋 yang 彤 tong 哲 zhe 远 yuan 曦 xi 霖 lin"
)
OTHER_NAMES = (
    # given names and surnames that go together
    (
        words(
            "Olivia Noah Emma Liam Amelia Oliver Isla Henry Mia Theo Freya Leo Ella Hugo Clara "
            "Jack Alice Oscar Nora Felix Grace Samuel Ruby Edward"
        ),
        words(
            "Bennett Carter Hughes Murphy Walsh Fraser Campbell Turner Foster Hayes O'Brien Wright "
            "Coleman Ellis Marsh Barrett"
        ),
    ),
    (
        words("Sofía Mateo Lucía Chiara Matteo Camille Anaïs Jules Zoë Lukas Greta Søren Ingrid"),
        words(
            "García Fernández Rossi Bianchi Dubois Lefèvre Müller Fischer Weber Jensen Lindström "
            "Novak Kowalski Costa"
        ),
    ),
    (
        words("Priya Arjun Aanya Rohan Diya Ishaan Meera Kabir Anika Vihaan"),
        words("Patel Sharma Iyer Nair Rao Mehta Kapoor Desai Menon"),
    ),
    (
        words("Minjun Seoyeon Jiho Hayoon Doyun Jiwoo Seojun Yuna"),
        words("Kim Park Lee Choi Jung Kang Yoon"),
    ),
    (
        words("Yuki Haruto Sakura Ren Hina Sota Aoi Kaito"),
        words("Tanaka Suzuki Sato Watanabe Ito Nakamura Kobayashi"),
    ),
    (
        words("Fatima Omar Layla Yusuf Amina Tariq Thabo Kofi Amara Zainab"),
        words("Rahman Hassan Haddad Mensah Dlamini Okafor Nasser Diallo"),
    ),
)

DEPARTMENTS = (
    ("dept-primary", "Primary teachers 小学部", 44),
    ("dept-languages", "Languages 语言组", 24),
    ("dept-maths", "Mathematics 数学组", 16),
    ("dept-science", "Science 科学组", 18),
    ("dept-humanities", "Humanities 人文组", 14),
    ("dept-art", "Art and design 艺术组", 12),
    ("dept-sport-music", "Sport and music 体育与音乐组", 12),
)
STAFF = (
    ("staff-office", "Office 行政办公室", 18),
    ("staff-library", "Library 图书馆", 8),
    ("staff-support", "Counselling and health 辅导与校医", 8),
)
OPERATORS = 6

IMAGES = (
    # name, version, size_gib, boot_mib
    ("win11-study", 4, 28, 200),
    ("win11-office", 2, 32, 210),
    ("win11-art", 3, 40, 220),
    ("win11-teacher", 5, 36, 210),
    ("debian-lab", 7, 12, 188),
    ("win11-science", 2, 30, 200),
)
HOSTS = (
    # name, profile, cpus, memory_mib, overcommit_cpu, start_limit
    ("srv-a1", "bare-metal", 48, 384 * 1024, 4, 20),
    ("srv-a2", "bare-metal", 48, 384 * 1024, 4, 20),
    ("srv-b1", "paravirtual", 32, 256 * 1024, 4, 20),
    ("srv-c1", "container", 32, 256 * 1024, 6, 30),
    ("srv-d1", "hosted", 16, 64 * 1024, 2, 6),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """`spares` and `size` are for VDI: machines kept ready, and the most there may be."""

    name: str
    title: str
    architecture: str
    image: str
    cpus: int
    memory_mib: int
    spares: int | None = None
    size: int | None = None
    grace_s: int = 900
    lease_s: int | None = None
    years: tuple[int, ...] = ()
    groups: tuple[str, ...] = ()


POOLS = (
    Pool(
        name="library",
        title="Library 图书馆",
        architecture="vdi",
        image="win11-study@4",
        cpus=2,
        memory_mib=4096,
        spares=40,
        size=120,
        years=tuple(range(3, 14)),
        groups=("teachers", "staff-library"),
    ),
    Pool(
        name="staff-office",
        title="Staff offices 教职员办公室",
        architecture="vdi",
        image="win11-office@2",
        cpus=2,
        memory_mib=6144,
        spares=20,
        size=70,
        grace_s=1800,
        groups=("teachers", "staff-office", "staff-support", "staff-library", "it"),
    ),
    Pool(
        name="languages",
        title="Language laboratory 语言实验室",
        architecture="vdi",
        image="win11-study@4",
        cpus=2,
        memory_mib=4096,
        spares=36,
        size=90,
        years=tuple(range(5, 14)),
        groups=("dept-languages",),
    ),
    Pool(
        name="art-studio",
        title="Art studio 美术工作室",
        architecture="idv",
        image="win11-art@3",
        cpus=8,
        memory_mib=16384,
        lease_s=8 * 3600,
        years=tuple(range(9, 14)),
        groups=("dept-art",),
    ),
    Pool(
        name="teacher-laptops",
        title="Teachers' laptops 教师笔记本",
        architecture="idv",
        image="win11-teacher@5",
        cpus=4,
        memory_mib=8192,
        lease_s=7 * 86_400,
        groups=("teachers",),
    ),
    Pool(
        name="computing",
        title="Computer laboratories 计算机房",
        architecture="voi",
        image="debian-lab@7",
        cpus=4,
        memory_mib=8192,
        years=tuple(range(5, 14)),
        groups=("dept-maths", "dept-science", "it"),
    ),
    Pool(
        name="science",
        title="Science laboratory 科学实验室",
        architecture="voi",
        image="win11-science@2",
        cpus=4,
        memory_mib=8192,
        years=tuple(range(7, 14)),
        groups=("dept-science",),
    ),
)

ROOMS = (
    # name prefix, how many, kind, location, pools
    ("lib", 44, "thin", "Library 图书馆", ("library",)),
    ("lang1", 28, "thin", "Language room 1 语言室一", ("languages", "library")),
    ("lang2", 28, "thin", "Language room 2 语言室二", ("languages", "library")),
    ("office", 22, "thin", "Main office 行政楼", ("staff-office",)),
    ("staffroom", 8, "thin", "Staff room 教师休息室", ("staff-office", "library")),
    ("art", 40, "fat", "Art studio 美术楼", ("art-studio",)),
    ("laptop", 60, "fat", "Staff room trolleys 教师推车", ("teacher-laptops",)),
    ("lab1", 30, "fat", "Computer laboratory 1 计算机房一", ("computing",)),
    ("lab2", 30, "fat", "Computer laboratory 2 计算机房二", ("computing",)),
    ("sci", 30, "fat", "Science laboratory 科学楼", ("science",)),
)


@dataclass
class Names:
    """Draws people: a display name and a user name that nobody else has."""

    chance: random.Random
    taken: set[str] = field(default_factory=set)

    def draw(self, *, chinese_share: float) -> tuple[str, str]:
        if self.chance.random() < chinese_share:
            family, family_latin = self.chance.choice(SURNAMES)
            first, first_latin = self.chance.choice(GIVEN_FIRST)
            given, given_latin = first, first_latin
            # One given name in six has a single character.
            if self.chance.random() > 1 / 6:
                second, second_latin = self.chance.choice(GIVEN_SECOND)
                given, given_latin = first + second, first_latin + second_latin
            shown = f"{family}{given} {family_latin} {given_latin.capitalize()}"
            return self._unused(f"{given_latin}.{family_latin}"), shown
        # The first list is the school's largest group after the Chinese one.
        given_names, surnames = self.chance.choices(OTHER_NAMES, weights=(5, 2, 2, 2, 1, 1))[0]
        given, family = self.chance.choice(given_names), self.chance.choice(surnames)
        return self._unused(f"{_plain(given)}.{_plain(family)}"), f"{given} {family}"

    def _unused(self, wish: str) -> str:
        base = wish.lower()
        name, number = base, 1
        while name in self.taken:
            number += 1
            name = f"{base}{number}"
        self.taken.add(name)
        return name


def _plain(text: str) -> str:
    """The name as schools write user names: plain letters only."""
    table = str.maketrans("áéíóúüöäøèñçïë", "aeiouuoaoencie")
    return "".join(
        char for char in text.lower().translate(table) if char.isascii() and char.isalpha()
    )


def classes() -> list[tuple[str, str, int]]:
    """(group, title, year) of every class."""
    found = []
    for year, count in CLASSES_OF_YEAR.items():
        for slug, english, chinese in TREES[:count]:
            title = f"Year {year} {english} {YEARS_CHINESE[year - 1]}年级{chinese}班"
            found.append((f"{year:02d}-{slug}", title, year))
    return found


def people(chance: random.Random) -> list[tuple[str, str, str, str]]:
    """(username, display name, role, groups) of everybody."""
    names = Names(chance)
    found: list[tuple[str, str, str, str]] = []

    def add(groups: str, *, role: str = "user", chinese_share: float) -> None:
        username, shown = names.draw(chinese_share=chinese_share)
        found.append((username, shown, role, groups))

    for department, _, count in DEPARTMENTS:
        for _ in range(count):
            add(f"teachers;{department}", chinese_share=0.45)
    for group, _, count in STAFF:
        for number in range(count):
            # The bursar and the data protection officer may look at everything.
            auditor = group == "staff-office" and number < 2  # noqa: PLR2004
            add(group, role="auditor" if auditor else "user", chinese_share=0.7)
    for _ in range(OPERATORS):
        add("it", role="operator", chinese_share=0.6)
    rooms = classes()
    # Classes are never all of one size: neighbours give and take up to three pupils.
    sizes = [PUPILS_OF_CLASS] * len(rooms)
    for place in range(0, len(sizes) - 1, 2):
        moved = chance.randint(-3, 3)
        sizes[place] += moved
        sizes[place + 1] -= moved
    for (group, _, _), size in zip(rooms, sizes, strict=True):
        for _ in range(size):
            add(group, chinese_share=0.68)
    return found


def write(name: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with (HERE / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_people() -> None:
    groups = [("teachers", "Teachers 全体教师"), ("it", "Computer services 信息中心")]
    groups += [(name, title) for name, title, _ in (*DEPARTMENTS, *STAFF)]
    groups += [(name, title) for name, title, _ in classes()]
    write("groups.csv", ("name", "title"), groups)
    chance = random.Random(SEED)  # noqa: S311 - names for a made-up school, no secrets
    write("users.csv", ("username", "display_name", "role", "groups"), people(chance))


def write_machines() -> None:
    write("images.csv", ("name", "version", "size_gib", "boot_mib"), IMAGES)
    write(
        "hosts.csv",
        ("name", "engine", "profile", "cpus", "memory_mib", "overcommit_cpu", "start_limit"),
        ((name, "simulated", *rest) for name, *rest in HOSTS),
    )
    endpoints = [
        (f"{prefix}-{number:02d}", kind, location, ";".join(pools))
        for prefix, count, kind, location, pools in ROOMS
        for number in range(1, count + 1)
    ]
    write("endpoints.csv", ("name", "kind", "location", "pools"), endpoints)


def write_pools() -> None:
    header = (
        "name", "title", "architecture", "kind", "image", "cpus", "memory_mib", "spares", "max",
        "log_off", "disconnect_grace_s", "lease_s",
    )  # fmt: skip
    write(
        "pools.csv",
        header,
        (
            (
                pool.name, pool.title, pool.architecture, "floating", pool.image, pool.cpus,
                pool.memory_mib, pool.spares, pool.size, "reset", pool.grace_s, pool.lease_s,
            )
            for pool in POOLS
        ),
    )  # fmt: skip
    entitled = [
        (pool.name, group)
        for pool in POOLS
        for group in (*pool.groups, *(name for name, _, year in classes() if year in pool.years))
    ]
    write("entitlements.csv", ("pool", "group"), entitled)


if __name__ == "__main__":
    write_people()
    write_machines()
    write_pools()
