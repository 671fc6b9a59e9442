"""The files of a small roster that has one of everything."""

from __future__ import annotations

from collections.abc import Mapping

GOOD: Mapping[str, str] = {
    "groups.csv": "name,title\n7-maple,Year 7 Maple 枫\nteachers,Teachers\n",
    "users.csv": (
        "username,display_name,role,groups\n"
        "Li.Ming,李明,user,7-maple\n"
        "ann.smith,Ann Smith,,teachers;7-maple\n"
        "ops,Operator,operator,\n"
    ),
    "images.csv": "name,version,size_gib,boot_mib\nwin11,3,40,200\nubuntu,1,12.5,120\n",
    "hosts.csv": (
        "name,engine,profile,cpus,memory_mib,overcommit_cpu,start_limit\n"
        "srv-1,simulated,bare-metal,64,524288,4,20\n"
        "srv-2,,,32,262144,,\n"
    ),
    "pools.csv": (
        "name,title,architecture,kind,image,cpus,memory_mib,spares,max,log_off,"
        "disconnect_grace_s,lease_s\n"
        "library,Library 图书馆,vdi,floating,win11@3,2,4096,10,60,reset,600,\n"
        "art,Art studio,idv,dedicated,win11@3,4,8192,,,keep,600,14400\n"
        "lab,Computer lab,voi,,ubuntu@1,4,8192,,,,,\n"
    ),
    "entitlements.csv": (
        "pool,group\nlibrary,7-maple\nlibrary,teachers\nart,7-maple\nlab,teachers\n"
    ),
    "endpoints.csv": (
        "name,kind,location,pools\n"
        "lib-01,thin,Library,library\n"
        "art-01,fat,Art studio,art\n"
        "lab-01,fat,Lab 1,lab;art\n"
    ),
}
