#!/bin/sh
touch "$HOME/logged-on"
exec xterm -fn 10x20 -geometry 200x80+0+0
